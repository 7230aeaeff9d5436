"""A run's folder: which file lies where, and checkpoints that are whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchbcos._core.errors import InputError, MissingFileError, StateError, WeightsError, shorten
from torchbcos._core.files import replacing
from torchbcos._core.names import hint
from torchbcos._core.stored import NotStored, load_stored

__all__ = ["OWN_WEIGHTS", "RunFolder"]

OWN_WEIGHTS = "weights.pt"  # of a network that `create_model` cannot build: it has no card
_LAST, _PREVIOUS, _BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
# A checkpoint holds the network that learns and the running average of its weights, in one state dict.
_PREFIXES = {"ema": "average.", "last": "network."}


@dataclass(frozen=True)
class RunFolder:
    """The files of one run; the folder itself need not exist yet.

    Attributes:
        out: the folder.

    >>> RunFolder(Path("runs", "mine")).last.as_posix()
    'runs/mine/checkpoints/last.ckpt'
    """

    out: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe, with the versions and data that the run was made with."""
        return self.out / "recipe.toml"

    @property
    def report(self) -> Path:
        """The result, written when all is done."""
        return self.out / "report.json"

    @property
    def history(self) -> Path:
        """What was measured on the way: a table, see `History`."""
        return self.out / "history.csv"

    @property
    def splits(self) -> Path:
        """The names of the examples that were held out, see `read_held_out`."""
        return self.out / "splits.json"

    @property
    def card(self) -> Path:
        """What the network is, so that checkpoints can be opened before the run is done."""
        return self.out / "card.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's folder."""
        return self.out / "tensorboard"

    @property
    def model(self) -> Path:
        """The folder that `torchbcos.load` opens, written when all is done."""
        return self.out / "model"

    @property
    def own_weights(self) -> Path:
        """The weights of a network that has no card, in the place of the model's."""
        return self.model / OWN_WEIGHTS

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.out / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint, from which the run goes on."""
        return self.checkpoints / _LAST

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest, in case that one is damaged."""
        return self.checkpoints / _PREVIOUS

    @property
    def best(self) -> Path:
        """The weights that were best on the selection split."""
        return self.checkpoints / _BEST

    @property
    def begun(self) -> bool:
        """Whether something was trained here, so that a run can go on."""
        trained = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        return self.recipe.is_file() and (trained or self.report.is_file())

    @property
    def finished(self) -> bool:
        """Whether the report and the model were written."""
        return self.report.is_file() and self.model.is_dir()

    def write_checkpoint(self, name: str, value: Any) -> None:
        """Write a checkpoint, whole and to the disk; a last one before it is kept as the previous one.

        Args:
            name: "last.ckpt", "best.ckpt", "epoch-0007.ckpt".
            value: what `torch.save` takes and `torch.load(weights_only=True)` reads.

        Raises:
            StateError: the disk is full or may not be written; what was there is still there.
        """
        _write_whole(value, self.checkpoints / name, keep=self.previous if name == _LAST else None)

    def write_own_weights(self, state: Mapping[str, Tensor]) -> None:
        """Write the weights of a network that has no card.

        Raises:
            StateError: the disk is full or may not be written.
        """
        _write_whole(state, self.own_weights)

    def read_checkpoint(self, check: Callable[[dict[str, Any]], object] | None = None) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest checkpoint that can be read, or None; and a sentence for each that cannot.

        Args:
            check: looks at what was read; raises `WeightsError` ("is no …") where it is no checkpoint.

        Raises:
            WeightsError: there are checkpoints, and none can be read.
        """
        complaints: list[str] = []
        for path in (self.last, self.previous):
            if not path.is_file():
                continue
            try:
                found = _read(path)
            except WeightsError as error:
                complaints.append(str(error))
                continue
            if not isinstance(found, dict) or "torchbcos" not in found:
                complaints.append(f"{str(path)!r} is no checkpoint of torchbcos.")
                continue
            try:
                if check is not None:
                    check(found)
                return found, complaints
            except WeightsError as error:
                complaints.append(f"{str(path)!r} {error}")
        if complaints:
            advice = "No other checkpoint of this run is left: begin again with another --out."
            raise WeightsError(f"{' '.join(complaints)} {advice}")
        return None, complaints

    def read_best(self) -> dict[str, Any]:
        """The state dict that was best on the selection split.

        Raises:
            WeightsError: it is not there, or damaged.
        """
        try:
            return self.weights("best")
        except MissingFileError:
            reason = f"{str(self.best)!r} is gone"
        except WeightsError as error:
            reason = str(error).removesuffix(".")
        raise WeightsError(f"{reason}: --set export=last takes the last weights (ema: averaged ones, if there are any).")

    def weights(self, which: str) -> dict[str, Tensor]:
        """The network's state dict from a checkpoint.

        Args:
            which: "ema" (averaged) and "last" are in the last checkpoint, "best" has a file of its own.

        Raises:
            MissingFileError: there is no such checkpoint.
            WeightsError: it is damaged.
            InputError: there are no such weights in it.
        """
        if which not in (*_PREFIXES, "best"):
            raise InputError(f"A run keeps 'ema', 'last' and 'best' weights, not {which!r}.{hint(which, (*_PREFIXES, 'best'))}")
        path = self.best if which == "best" else self.last
        if not path.is_file():
            raise MissingFileError(f"There is no checkpoint {str(path)!r}.")
        found = _read(path)
        state = found.get("state" if which == "best" else "state_dict") if isinstance(found, Mapping) else None
        if not isinstance(state, Mapping) or not all(_is_weight(key, value) for key, value in state.items()):
            raise WeightsError(f"{str(path)!r} is damaged (it holds something else than weights).")  # under this name
        state = dict(state)
        if which == "best":
            return state
        prefix = _PREFIXES[which]
        chosen = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if not chosen:
            raise InputError(f"This run has no averaged weights: its recipe has ema_decay = 0 ({str(self.out)!r}).")
        return chosen

    def locate_model(self, *, weights: str, card: str) -> Path:
        """The folder with this run's model; any other folder is returned unchanged.

        Args:
            weights, card: the names of a model folder's two files.

        Raises:
            MissingFileError: the run is not finished, or its network has no card.
        """
        if (self.out / weights).is_file():
            return self.out
        if (self.model / card).is_file():
            return self.model
        for folder in (self.out, self.model):
            if (folder / OWN_WEIGHTS).is_file():
                raise MissingFileError(
                    f"{shorten(repr(str(folder)), 100)} holds only the weights of a network of your own: build it, and give it "
                    f"torch.load({OWN_WEIGHTS!r}, weights_only=True) of that folder by load_state_dict; then "
                    "torchbcos.save(torchbcos.Classifier(network, class_names=…, builder='mynets:build'), 'my-model') makes a "
                    "model that load and every command take."
                )
        if self.checkpoints.is_dir():
            raise MissingFileError(
                f"The run {str(self.out)!r} is not finished: the command that began it goes on and writes its model."
            )
        return self.out

    def sweep(self) -> None:
        """Remove the unfinished files that a killed run left."""
        for folder in (self.out, self.checkpoints, self.model):
            for partial in folder.glob(".*.part"):
                partial.unlink(missing_ok=True)


def _is_weight(name: Any, value: Any) -> bool:
    """Whether it is an entry of a state dict; a module of the user's may keep anything as its extra state."""
    return isinstance(name, str) and (isinstance(value, Tensor) or name.endswith("_extra_state"))


def _write_whole(value: Any, path: Path, *, keep: Path | None = None) -> None:
    """`torch.save` that leaves the old file or the new one, never half of one.

    Args:
        value: what to save.
        path: the file; its folder is created.
        keep: where the old file goes.

    Raises:
        StateError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=True, keep=keep) as partial:
            torch.save(value, partial)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StateError(
            f"Could not write the checkpoint {str(path)!r}: {reason}. The one before is kept: make room, and the same command "
            "goes on."
        ) from None


def _read(path: Path) -> Any:
    try:
        return load_stored(path)
    except NotStored as error:
        raise WeightsError(f"{str(path)!r} {error}") from error
    except Exception as error:  # a damaged file makes torch raise errors of any class
        raise WeightsError(f"{str(path)!r} is damaged ({type(error).__name__}).") from error
