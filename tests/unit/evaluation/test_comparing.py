"""Whole comparisons on pictures of seconds: every number again by hand, interruptions, changed networks, states left alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchbcos
from tests.coloured import COLOURS, SIDE, Plain, classifier, folder, picture, plain_classifier
from tests.reference import comparisons as twin
from torchbcos._core.errors import BcosError, ExplanationWarning, InputError, StateError
from torchbcos.evaluation import compare, evaluate
from torchbcos.evaluation.engines import Engine
from torchbcos.evaluation.measures import BOXES, GRIDS, MEASURES
from torchbcos.evaluation.units import Worker
from torchbcos.zoo import Classifier

BOX = (0.5, 0.4, 0.5, 0.4)
METHODS = ("inherent", "input_x_gradient", "grad_cam")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = folder(tmp_path_factory.mktemp("colours") / "data")
    lines = [f"{name}/{i}.png,{','.join(map(str, BOX))}" for name in COLOURS for i in range(3)]
    (place / "boxes.csv").write_text("\n".join(["file,cx,cy,w,h", *lines]) + "\n")
    return place


class Counted(Engine):
    """Does the units, and remembers how many maps were computed."""

    def __init__(self, stop: int | None = None) -> None:
        self.computed, self.stop = 0, stop

    def run(self, worker: Worker, progress: Any) -> None:
        for number, unit in enumerate(worker.units()):
            if number == self.stop:
                raise KeyboardInterrupt
            worker.run(unit)
            self.computed = worker.computed


def table(found: Any) -> Mapping[tuple[str, str, str], Tensor]:
    return dict(found.values)


def same(a: Mapping[Any, Tensor], b: Mapping[Any, Tensor], **tolerance: float) -> None:
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], equal_nan=True, msg=lambda text, key=key: f"{key}: {text}",
                                   **({"rtol": 0, "atol": 0} | tolerance))  # fmt: skip


def test_every_metric_is_what_the_twin_computes(data: Path) -> None:
    clf = classifier()
    found = compare([("m", clf)], METHODS, list(MEASURES), data, limit=2)
    fewer = compare([("m", clf)], ["random"], ["grid-pointing", "gini"], data, limit=2, limit_pictures=1)
    assert [one["count"] for one in fewer.facts["items"].values()] == [2, 1]
    names = {key: found.facts["items"][key]["names"] for key in ("grids-2", "pictures", "boxes")}
    masks = {name: twin.mask_of_box(BOX, SIDE) for name in names["boxes"]}
    for method in METHODS:
        for name, measure in MEASURES.items():
            got = found.values["m", method, name]
            if measure.items == GRIDS:
                wanted = twin.grid_values(clf, data, names["grids-2"], method, name)
            elif measure.items == BOXES:
                wanted = [[value] for value in twin.object_values(clf, data, names["boxes"], masks, method, name)]
            else:
                wanted = [[value] for value in twin.picture_values(clf, data, names["pictures"], method, name)]
            torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=1e-6, equal_nan=True,
                                       msg=lambda text, method=method, name=name: f"{name} of {method}: {text}")  # fmt: skip
            assert name in ("infidelity", "residual") or not bool(got.isnan().any())


def test_an_interrupted_comparison_goes_on_and_computes_no_map_twice(data: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"limit": 2, "confidence": 0.5}
    whole, first, second = Counted(), Counted(stop=5), Counted()
    usual = compare([classifier()], METHODS, ["grid-pointing", "gini", "deletion"], data, engine=whole, **asked)
    with pytest.raises(KeyboardInterrupt):
        compare([classifier()], METHODS, ["grid-pointing", "gini", "deletion"], data, out=tmp_path, engine=first, **asked)
    again = compare([classifier()], METHODS, ["grid-pointing", "gini", "deletion"], data, out=tmp_path, engine=second, **asked)
    assert first.computed == 5 and whole.computed == first.computed + second.computed == 12
    assert json.dumps(again.to_dict()) == json.dumps(usual.to_dict())
    third = Counted()
    more = compare([classifier()], METHODS, ["entropy", "dipart"], data, out=tmp_path, engine=third, **asked)
    assert third.computed == 2 * 3, "maps of pictures are there, those of a DiPart network are not"
    assert not bool(more.values["Bcos", "inherent", "entropy"].isnan().any())


_KILLED = """
import os, sys, torch
sys.path[:0] = [{root!r}]
from tests.coloured import classifier
from torchbcos.evaluation import compare
from torchbcos.evaluation.engines import Engine

class Killed(Engine):
    def run(self, worker, progress):
        for number, unit in enumerate(worker.units()):
            if number == 4:
                os.kill(os.getpid(), 9)
            worker.run(unit)

compare([classifier()], ["inherent", "grad_cam"], ["grid-pointing", "gini"], {data!r}, out={out!r}, limit=2, engine=Killed())
"""


def test_a_killed_process_loses_one_batch_at_most(data: Path, tmp_path: Path) -> None:
    script = _KILLED.format(root=str(Path(__file__).parents[3]), data=str(data), out=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    counted, whole = Counted(), Counted()
    again = compare(
        [classifier()], ["inherent", "grad_cam"], ["grid-pointing", "gini"], data, out=tmp_path, limit=2, engine=counted
    )
    usual = compare([classifier()], ["inherent", "grad_cam"], ["grid-pointing", "gini"], data, limit=2, engine=whole)
    assert counted.computed == whole.computed - 4
    assert json.dumps(again.to_dict()) == json.dumps(usual.to_dict())


def test_warnings_of_methods_survive_an_interruption(data: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"limit": 2}
    usual = compare([classifier()], ["guided_backprop"], ["gini", "entropy"], data, **asked)
    compare([classifier()], ["guided_backprop"], ["gini"], data, out=tmp_path, **asked)
    later = compare([classifier()], ["guided_backprop"], ["gini", "entropy"], data, out=tmp_path, **asked)
    assert usual.rows[0]["told"], "the method warns of this network"
    assert [row["told"] for row in later.rows] == [row["told"] for row in usual.rows] == 2 * [usual.rows[0]["told"]]


def test_how_probabilities_are_made_is_part_of_the_key(data: Path, tmp_path: Path) -> None:
    clf, asked = plain_classifier(), {"limit": 2, "confidence": 0.0, "seed": 3}
    changes: list[dict[str, Any]] = [{}, {"temperature": 9.0}, {"probability": "softmax"}]
    for change in changes:
        other = Classifier(clf.model, replace(clf.card, **change))
        found = compare([other], ["saliency"], ["deletion"], data, out=tmp_path, **asked)
        same(table(found), table(compare([other], ["saliency"], ["deletion"], data, **asked)))


@pytest.mark.parametrize("changed", ["weights", "method", "plain attribute", "code", "encoding", "picture"])
def test_what_was_changed_is_not_reused(changed: str, tmp_path: Path) -> None:
    place = folder(tmp_path / "data", 1)

    def clf() -> Classifier:
        return plain_classifier(only=True)

    compare([clf()], ["saliency"], ["gini"], place, out=tmp_path / "out", limit=3)
    network, methods = clf(), ["saliency"]
    assert isinstance(network.model, Plain)
    if changed == "weights":
        with torch.no_grad():
            network.model.head.weight[0, 0] += 1e-3
    elif changed == "method":
        methods = ["smooth_grad:samples=3"]
    elif changed == "plain attribute":  # stands in no state_dict
        network.model.scale = 3.0  # type: ignore[assignment]
    elif changed == "code":
        network.model.last = lambda x: 2 * x  # type: ignore[assignment]
    elif changed == "encoding":
        network = plain_classifier(only=True, encoding="normalize", mean=(0.1,) * 3, std=(1.0,) * 3)
    else:
        for name in COLOURS:
            picture(COLOURS[name], 99).save(place / name / "0.png")
    counted = Counted()
    compare([network], methods, ["gini"], place, out=tmp_path / "out", limit=3, engine=counted)
    assert counted.computed == 3
    unchanged = Counted()
    compare([network], methods, ["gini"], place, out=tmp_path / "out", limit=3, engine=unchanged)
    assert unchanged.computed == 0


def test_predictions_of_exchanged_pictures_are_not_reused(tmp_path: Path) -> None:
    place = folder(tmp_path / "data", 1)
    compare([classifier()], ["random"], ["gini"], place, out=tmp_path / "out")
    picture(COLOURS["red"], 5).save(place / "blue" / "0.png")
    found = compare([classifier()], ["random"], ["gini"], place, out=tmp_path / "out")
    assert "blue/0.png" not in found.facts["items"]["pictures"]["names"] and found.facts["models"][0]["top1"] == 80


def test_another_seed_draws_anew(data: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        found = compare([classifier()], ["random"], ["grid-pointing"], data, out=tmp_path, limit=2, seed=seed)
        fresh = compare([classifier()], ["random"], ["grid-pointing"], data, limit=2, seed=seed)
        same(table(found), table(fresh))


def test_other_boxes_under_the_same_name_are_seen(data: Path, tmp_path: Path) -> None:
    place = folder(tmp_path / "data", 1)
    values = []
    for width in (0.5, 1.0):
        lines = [f"{name}/0.png,0.5,0.5,{width},1" for name in COLOURS]
        (place / "boxes.csv").write_text("\n".join(["file,cx,cy,w,h", *lines]))
        found = compare([classifier()], ["inherent"], ["energy-pointing"], place, out=tmp_path / "out")
        values.append(found.rows[0]["mean"])
    assert values[0] < values[1] == 1.0


def test_no_order_and_no_batch_changes_a_number(data: Path) -> None:
    asked: dict[str, Any] = {"limit": 3, "confidence": 0.0}
    models, methods = (
        [("b", classifier()), ("p", plain_classifier(side=10))],
        ["inherent", "rise:samples=7", "random", "grad_cam"],
    )
    metrics = ["grid-pointing", "deletion:ties=random", "sensitivity-n", "randomisation", "infidelity"]
    usual = compare(models, methods, metrics, data, **asked)
    turned = compare(models[::-1], methods[::-1], metrics[::-1], data, **asked)
    same(table(usual), table(turned))
    together = compare(models, methods, metrics, data, batch_size=3, **asked)
    same(table(usual), table(together), rtol=1e-4, atol=1e-5)


def test_states_are_left_as_they_were(data: Path) -> None:
    clf = classifier()
    clf.model.stem.requires_grad_(False)
    random.seed(5), np.random.seed(6), torch.manual_seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    needs = [p.requires_grad for p in clf.model.parameters()]
    compare(
        [clf],
        ["inherent", "rise:samples=4", "grad_cam", "random"],
        ["deletion", "randomisation", "road", "dipart"],
        data,
        limit=2,
    )
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert not any(module.training for module in clf.model.modules())
    assert [p.requires_grad for p in clf.model.parameters()] == needs
    assert all(p.grad is None for p in clf.model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in clf.model.modules())


# -- models ----------------------------------------------------------------------------------------------------------------


def test_models_of_other_encodings_sizes_and_channels_see_the_same_pictures(data: Path) -> None:
    models = [
        ("b-cos", classifier()), ("larger", plain_classifier(side=16)), ("normalised", plain_classifier(
            encoding="normalize", mean=(0.0,) * 3, std=(1.0,) * 3)),
    ]  # fmt: skip
    methods = ["inherent", "occlusion:window=4", "brightness"]
    found = compare(models, methods, ["grid-pointing", "deletion"], data, limit=2, confidence=0)
    assert all(row["n"] == 2 and row["mean"] is not None and not row["note"] for row in found.rows)
    assert found.facts["items"]["grids-2"]["cell"] == SIDE
    alike = [found.values[label, "brightness", "grid-pointing"] for label in ("b-cos", "larger", "normalised")]
    assert torch.equal(alike[0], alike[1]) and torch.equal(alike[0], alike[2]), "the same pixels, whatever a model's own size"
    models.append(("grey", plain_classifier(channels=1)))
    grey = compare(models, methods, ["deletion", "gini"], data, limit=2, targets="predicted")
    assert all(row["n"] == 2 and row["mean"] is not None and not row["note"] for row in grey.rows)
    with pytest.raises(InputError, match="no grid of 2 x 2 in which every model sees 4 different classes"):
        compare(models, methods, ["grid-pointing"], data, targets="predicted")  # the grey one sees two


def test_a_network_of_one_size_is_refused_grids_in_one_sentence(data: Path) -> None:
    clf = plain_classifier(only=True)
    with pytest.raises(InputError, match=r"takes pictures of 12 x 12 pixels and no grid of 2 x 2.*--rescale"):
        compare([clf], ["saliency"], ["grid-pointing"], data)
    found = compare([clf], ["saliency"], ["grid-pointing"], data, rescale=True, limit=2, confidence=0)
    assert found.rows[0]["n"] == 2 and not found.rows[0]["undefined"]
    with pytest.raises(InputError, match=r"cannot be shrunk to 1/5.*--cell 10"):
        compare([clf], ["saliency"], ["grid-pointing:n=5"], data, rescale=True)
    with pytest.raises(InputError, match="does not take pictures of 9 x 9"):
        compare([clf], ["saliency"], ["gini"], data, size=9)
    # each cell of DiFull goes through the network alone
    assert compare([clf], ["saliency"], ["difull"], data, limit=2).rows[0]["mean"] == 1.0


def test_cells_that_a_feature_map_cannot_be_cut_into_are_said_by_what_is_wrong(data: Path) -> None:
    """Not that the network takes no grids, which it does."""
    torch.manual_seed(0)
    network = torchbcos.create_model("resnet18", num_classes=len(COLOURS), width_factor=0.125).eval()
    clf = Classifier(network, class_names=tuple(COLOURS), preprocess={"resize": 80, "crop": 80})
    with pytest.raises(InputError, match=r"dipart on .*cells of 80 pixels.*5 x 5 cannot be cut into 2 x 2"):
        compare([clf], ["inherent"], ["dipart"], data, limit=1, confidence=0)


def test_models_of_one_name_are_told_apart(data: Path) -> None:
    found = compare([classifier(), classifier(seed=1)], ["random"], ["gini"], data, limit=2)
    assert [model["label"] for model in found.facts["models"]] == ["Bcos", "Bcos 2"]
    assert len(found.rows) == 2


def test_one_model_alone_needs_no_list(data: Path) -> None:
    assert compare(classifier(), "random", "gini", data, limit=2).rows[0]["n"] == 2
    with pytest.raises(BcosError, match="A network alone"):
        compare(nn.Sequential(nn.Flatten()), "random", "gini", data)
    with pytest.raises(BcosError, match="models is a list"):
        compare(3, "random", "gini", data)


def test_a_network_in_training_mode_is_refused(data: Path) -> None:
    clf = plain_classifier()
    clf.model.norm = nn.BatchNorm2d(3)
    clf.model.norm.train()
    with pytest.raises(StateError, match=r"training mode.*norm.*model\.eval\(\)"):
        compare([clf], ["saliency"], ["gini"], data)


def test_a_network_that_fails_on_one_picture_spoils_no_other(data: Path) -> None:
    class Picky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.asked = Plain(), False

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.net(x)
            if self.asked and x.requires_grad and bool((x.flatten(1).sum(1) == worst).any()):
                raise RuntimeError("a kernel\nthat fails")
            return found

    network = Picky().eval()
    clf = Classifier(network, class_names=tuple(COLOURS), preprocess={"resize": SIDE, "crop": SIDE, "encoding": "none"})
    first = compare([clf], ["saliency"], ["gini"], data, limit=4)
    bad = first.facts["items"]["pictures"]["names"][2]
    worst = clf.preprocess(data / bad).sum()
    network.asked = True
    for batch_size in (1, 4):
        found = compare([clf], ["saliency"], ["gini"], data, limit=4, batch_size=batch_size)
        assert found.values["Picky", "saliency", "gini"].isnan().flatten().tolist() == [False, False, True, False]
        said = [text for text in found.sentences if "a kernel that fails" in text]
        assert len(said) == 1 and "1 of 4" in said[0] and bad in said[0] and "saliency" in said[0]
        assert found.rows[0]["note"] == "" and found.rows[0]["undefined"] == 1


def test_maps_that_are_not_finite_name_method_and_picture(data: Path) -> None:
    class Steep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Plain()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.net(x)
            return found + (x.sum((1, 2, 3), keepdim=True)[..., 0, 0] - worst).abs().sqrt() * 0.0

    network = Steep().eval()
    worst = 0.0
    with pytest.warns(ExplanationWarning):
        clf = Classifier(network, class_names=tuple(COLOURS), preprocess={"resize": SIDE, "crop": SIDE, "encoding": "none"})
    bad = compare([clf], ["random"], ["gini"], data, limit=3).facts["items"]["pictures"]["names"][1]
    worst = float(clf.preprocess(data / bad).sum((1, 2, 3)))  # where the root's gradient is infinite
    found = compare([clf], ["saliency"], ["gini"], data, limit=3)
    said = [text for text in found.sentences if "NaN" in text]
    assert len(said) == 1 and said[0].startswith("saliency on Steep") and bad in said[0]


# -- targets ---------------------------------------------------------------------------------------------------------------


def test_a_model_that_does_not_know_the_classes_is_measured_on_its_own(data: Path) -> None:
    clf = plain_classifier(("a", "b", "c", "d", "e"))
    with pytest.raises(InputError, match="knows no class"):
        compare([clf], ["saliency"], ["gini"], data)
    found = compare([clf], ["saliency"], ["grid-pointing", "gini"], data, targets="predicted", limit=3)
    assert found.facts["models"][0]["top1"] is None and found.facts["settings"]["targets"] == "predicted"
    assert set(found.facts["items"]["pictures"]["classes"]) <= set("abcde")
    labelled = compare([plain_classifier()], ["saliency"], ["grid-pointing", "gini"], data, limit=3, confidence=0)
    assert labelled.rows[1]["n"] == 3, "this network is right on all, so that both targets are one"
    by_name = dict(zip(found.facts["items"]["pictures"]["names"], found.facts["items"]["pictures"]["classes"], strict=True))
    assert {tuple(COLOURS)["abcde".index(one)] for one in by_name.values()} == {name.split("/")[0] for name in by_name}


def test_models_with_other_classes_each_have_their_own_targets(data: Path) -> None:
    names = tuple(COLOURS)
    models = [("one", plain_classifier()), ("two", plain_classifier(tuple(f"no {name}" for name in names)))]
    found = compare(models, ["saliency"], ["grid-pointing", "gini"], data, targets="predicted", limit=3)
    same({"": found.values["one", "saliency", "grid-pointing"]}, {"": found.values["two", "saliency", "grid-pointing"]})


def test_pictures_without_labels(tmp_path: Path) -> None:
    for k, colour in enumerate(COLOURS.values()):
        picture(colour, k).save(tmp_path / f"{k}.png")
    with pytest.raises(InputError):
        compare([classifier()], ["inherent"], ["gini"], tmp_path)
    found = compare([classifier()], ["inherent"], ["gini"], tmp_path, targets="predicted")
    assert found.rows[0]["n"] == 5 and found.facts["items"]["pictures"]["names"][0].endswith(".png")


def test_several_labels_at_once(tmp_path: Path) -> None:
    for k, colour in enumerate(COLOURS.values()):
        picture(colour, k).save(tmp_path / f"{k}.png")
    (tmp_path / "labels.csv").write_text("file,cat,dog\n" + "".join(f"{k}.png,1,1\n" for k in range(5)))
    with pytest.raises(InputError, match=r"several labels may hold at once.*predicted"):
        compare([classifier()], ["inherent"], ["gini"], tmp_path)
    assert compare([classifier()], ["inherent"], ["gini"], tmp_path, targets="predicted").rows[0]["n"] == 5


# -- data ------------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named_and_counted(tmp_path: Path) -> None:
    place = folder(tmp_path / "data", 2)
    (place / "red" / "1.png").write_bytes(b"no picture")
    found = compare([classifier(), classifier(seed=1)], ["inherent"], ["gini", "grid-pointing"], place, limit=2)
    assert found.facts["data"]["unreadable"] == ["red/1.png"] and found.facts["data"]["pictures"] == 10
    assert any("1 picture was left out" in text and "red/1.png" in text for text in found.sentences)
    for number, file in enumerate(sorted(place.rglob("*.png"))):
        file.write_bytes(f"no picture {number}".encode())
    with pytest.raises(InputError, match=r"None of the 10 pictures can be read; the first: .*blue.0\.png"):
        compare([classifier()], ["inherent"], ["gini"], place)


def test_too_few_classes_and_too_few_pictures(tmp_path: Path) -> None:
    place = folder(tmp_path / "three", 2, ("red", "green", "blue"))
    with pytest.raises(InputError, match=r"Grids of 3 x 3 need 9 classes.*there are 3"):
        compare([classifier()], ["inherent"], ["grid-pointing:n=3"], place)
    five = compare([classifier()], ["inherent"], ["grid-pointing", "gini"], folder(tmp_path / "five", 1))
    assert [row["n"] for row in five.rows] == [1, 5]
    assert any("allow 1 grids" in text for text in five.sentences) and any("allow 5 pictures" in text for text in five.sentences)
    one = folder(tmp_path / "one", 2, ("red",))
    with pytest.raises(InputError, match="two at least"):
        compare([classifier()], ["inherent"], ["gini"], one)
    assert compare([classifier()], ["inherent"], ["gini"], one, targets="predicted").rows[0]["n"] == 2
    with pytest.raises(InputError, match="need 4 classes"):
        compare([classifier()], ["inherent"], ["grid-pointing"], one, targets="predicted")


def test_a_picture_under_two_names_counts_once(tmp_path: Path) -> None:
    place = folder(tmp_path / "data", 2)
    (place / "red" / "9.png").write_bytes((place / "red" / "0.png").read_bytes())
    found = compare([classifier()], ["inherent"], ["gini"], place)
    assert found.rows[0]["n"] == 10 and found.facts["data"]["copies"] == ["red/9.png"]


def test_objects(data: Path, tmp_path: Path) -> None:
    place = folder(tmp_path / "data", 1)
    with pytest.raises(BcosError, match=r"boxes\.csv.*masks") as caught:
        compare([classifier()], ["inherent"], ["energy-pointing"], place)
    assert "uidance" not in str(caught.value)
    (place / "boxes.csv").write_text("file,cx,cy,w,h\nred/0.png,0.5,0.5,0.5,0.5\nblue/0.png,0.5,0.5,0.001,0.001\n")
    found = compare([classifier()], ["inherent"], ["energy-pointing", "pointing-hit", "map-iou"], place)
    assert [(row["n"], row["undefined"]) for row in found.rows] == [(2, 1)] * 3, "nothing is left of the small box"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"confidence": 1}, "confidence is a probability"), ({"confidence": "x"}, "confidence is a probability"),
        ({"limit": 0}, "limit must be"), ({"cell": 1.5}, "cell must be"), ({"seed": "x"}, "seed must be"), ({"seed": -1}, "seed"),
        ({"workers": -1}, "workers must be"), ({"targets": "label s"}, "'label' or 'predicted'"), 
        ({"rescale": "no"}, "rescale is"),
        ({"split": "vaal"}, "no split 'vaal'"), ({"protocol": "coda2"}, "coda"), ({"budget": 0}, "budget is seconds"),
        ({"lmit": 3}, "no argument 'lmit'"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_sentence(asked: dict[str, Any], said: str, data: Path) -> None:
    with pytest.raises(BcosError, match=said) as caught:
        evaluate("gini", classifier(), data, methods="random", **asked)
    assert len(str(caught.value)) <= 500
