"""What users of other libraries type in Python: answered in a sentence, and still an AttributeError for whoever only asks."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

import torchbcos
from torchbcos import nn as bnn
from torchbcos._core import habits


def _net():
    return torch.nn.Sequential(bnn.BcosConv2d(6, 2, 3), bnn.GlobalAveragePool())


@pytest.fixture(scope="module")
def clf():
    return torchbcos.Classifier(_net(), class_names=("cat", "dog"))


@pytest.fixture(scope="module")
def explained(clf):
    return clf.explain(torch.rand(3, 8, 8))


CLASSIFIER = [
    ("predict_proba", "clf.predict("), ("saliency", "clf.explain("), ("save", "torchbcos.save("), ("eval", "clf.model"),
    ("classes", "clf.class_names"), ("to_onnx", "torchbcos.export("), ("class_name", "Did you mean 'class_names'"),
]  # fmt: skip
EXPLANATION = [
    ("show", "e.panel("), ("plot", "e.panel("), ("numpy", "e.save_arrays("), ("attributions", "e.contributions"),
    ("delta", "e.residual"), ("contribution", "Did you mean 'contributions'"),
]  # fmt: skip
DOOR = [
    ("resnet50", "create_model('resnet50')"), ("vit_b_16", "create_model('vit_b_16')"), ("train", "torchbcos.training.train("),
    ("evaluate", "torchbcos.evaluation"), ("load_model", "torchbcos.load("), ("list_model", "Did you mean 'list_models'"),
]  # fmt: skip


@pytest.mark.parametrize(("word", "said"), CLASSIFIER)
def test_what_a_classifier_is_called_elsewhere(clf, word, said):
    with pytest.raises(AttributeError) as error:
        getattr(clf, word)
    assert said in str(error.value) and f"'{word}'" in str(error.value)


@pytest.mark.parametrize("word", ["load", "from_pretrained"])
def test_what_the_class_is_asked_for_elsewhere(word):
    with pytest.raises(AttributeError, match=r"it is torchbcos\.load\("):
        getattr(torchbcos.Classifier, word)


@pytest.mark.parametrize(("word", "said"), EXPLANATION)
def test_what_an_explanation_is_called_elsewhere(explained, word, said):
    with pytest.raises(AttributeError) as error:
        getattr(explained, word)
    assert said in str(error.value)


@pytest.mark.parametrize(("word", "said"), DOOR)
def test_what_the_package_is_asked_for_elsewhere(word, said):
    with pytest.raises(AttributeError) as error:
        getattr(torchbcos, word)
    assert said in str(error.value)


@pytest.mark.parametrize("word", ["explain", "predict", "save"])
def test_what_a_network_is_asked_for_elsewhere(word):
    net = torchbcos.create_model("cifar10_resnet20")
    with pytest.raises(AttributeError, match="torchbcos"):
        getattr(net, word)


def test_a_classifier_that_is_called(clf):
    with pytest.raises(TypeError, match=r"clf\.predict\(images\)"):
        clf(torch.rand(3, 8, 8))


@pytest.mark.parametrize("source", ["resnet50", Path("runs/mine")])
def test_a_classifier_of_a_name(source):
    with pytest.raises(TypeError, match=r"torchbcos\.load\("):
        torchbcos.Classifier(source)


def test_whoever_only_asks_gets_no(clf, explained):
    for thing in (clf, explained, torchbcos):
        for word in ("show", "predict_proba", "_repr_html_", "__array__", "__wrapped__", "_ipython_display_"):
            assert not hasattr(thing, word)
    assert torch.equal(copy.deepcopy(explained).values, explained.values) and copy.copy(clf).class_names == clf.class_names
    assert torch.equal(pickle.loads(pickle.dumps(explained)).values, explained.values)
    assert copy.deepcopy(clf).class_names == pickle.loads(pickle.dumps(clf)).class_names == ("cat", "dog")


def test_no_table_names_what_there_is(clf, explained):
    tables = {clf: habits.CLASSIFIER, explained: habits.EXPLANATION, torchbcos.Classifier: habits.CLASSIFIER_CLASS}
    assert [word for thing, table in tables.items() for word in table if hasattr(thing, word)] == []
    assert [word for word in habits.DOOR if hasattr(torchbcos, word)] == []
