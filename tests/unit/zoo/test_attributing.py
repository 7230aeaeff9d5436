"""Maps of any method for pictures: classes by name, batches that change nothing, pixels of ordinary networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core.errors import ArgumentTypeError, InputError


def classifier() -> torchbcos.Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(bnn.BcosConv2d(6, 3, 3), bnn.GlobalAveragePool())
    return torchbcos.Classifier(net, class_names=("cat", "dog", "owl"))


def test_pictures_and_tensors_give_the_same_maps() -> None:
    clf, photos = classifier(), torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    direct = torchbcos.attribute(clf.model, clf.preprocess(photos), 1, method="smooth_grad", samples=3)
    for size in (2, 5):
        found = clf.attribute(photos, "dog", method="smooth_grad", samples=3, batch_size=size)
        assert torch.allclose(found.maps, direct.maps, atol=1e-6) and found.label() == "dog" and len(found) == 5
    again = [
        clf.attribute(photos, 1, method="smooth_grad", samples=3, batch_size=size, generator=torch.Generator().manual_seed(7))
        for size in (2, 5)
    ]
    assert torch.allclose(again[0].maps, again[1].maps, atol=1e-6) and not torch.allclose(again[0].maps, direct.maps, atol=1e-6)


def test_an_ordinary_network_is_attributed_to_pixels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    how = {"encoding": "normalize", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3], "resize": None, "crop": None}
    clf = torchbcos.Classifier(net, class_names=("a", "b"), preprocess=how)
    photo = torch.rand(1, 3, 12, 12)
    a = clf.attribute(photo, "a", method="integrated_gradients", baseline="black", samples=300)
    normalised = clf.preprocess(photo)
    black = clf.preprocess(torch.zeros_like(photo))
    assert torch.allclose(a.maps.sum(), (net(normalised) - net(black))[0, 0], atol=2e-3)
    e = clf.explain(photo, "a")
    assert torch.allclose(clf.attribute(photo, "a", method="inherent").maps, e.contributions, atol=1e-6)
    assert a.panel().size == clf.attribute(photo, "b", method="saliency").panel().size


def test_classes_and_options_are_checked() -> None:
    clf, photos = classifier(), torch.rand(1, 3, 12, 12)
    with pytest.raises(InputError, match="no class 'dgo'"):
        clf.attribute(photos, "dgo", method="saliency")
    with pytest.raises(ArgumentTypeError, match=r"no argument 'basline'.*baseline"):
        clf.attribute(photos, method="saliency", basline="grey")
    with pytest.raises(InputError, match=r"Unknown method 'salience'.*saliency"):
        clf.attribute(photos, method="salience")
    assert clf.attribute(photos, ["cat", "owl"], method="saliency").targets.tolist() == [[0, 2]]
