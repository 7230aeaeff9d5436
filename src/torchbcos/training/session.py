"""One process of one run: steps, checkpoints, judging, and the model at the end."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from torchbcos import zoo
from torchbcos._core.errors import InputError
from torchbcos._core.files import replacing, write_json
from torchbcos.data.annotations import find_annotations
from torchbcos.data.labelled import Labelled, Split
from torchbcos.data.loading import Examples, Order, loader, seed_of, whole_batches
from torchbcos.runs import provenance, write_held_out
from torchbcos.training.augment import Augment, preprocess_of
from torchbcos.training.files import BEST, LAST, History
from torchbcos.training.machine import Stopped, answering_interrupts, make_trainer, processes, quiet, readable_errors
from torchbcos.training.module import Training, build_network, everyones
from torchbcos.training.plan import Place, Progress, Splits, channels_of, clock, summary
from torchbcos.training.recipe import Recipe, differences, machine_keys, to_dict, to_toml
from torchbcos.training.watch import PICTURES, log_explanations

Say = Callable[[str], None]
WARM = 2  # steps that compile, allocate and fill caches, and say nothing of the time that others take
Watch = Callable[[Progress], None]


class Session:
    """One process of one run, from its first or last checkpoint to its end or its interruption."""

    def __init__(
        self, recipe: Recipe, data: Labelled, splits: Splits, place: Place, say: Say, source: Path, progress: Watch | None = None
    ) -> None:
        self.recipe, self.data, self.splits, self.place, self.source = recipe, data, splits, place, source
        self.tell, self.progress = say, progress
        self.stopping = False
        self.prepare = preprocess_of(recipe)
        self.best: dict[str, Any] = {"score": float("-inf")}
        self.began, self.busy, self.seconds_before = time.time(), 0.0, 0.0
        self.start = 0  # the step at which this session began
        self.warm = 0.0  # when its first steps were done
        self.before: Recipe | None = None  # of the run that goes on
        self.changes: list[str] = []  # settings that were changed on the way

    def examples(self, split: Split, *, augment: bool = False) -> Examples:
        """A split as encoded examples."""
        recipe, masks = self.recipe, None
        if augment and recipe.guide:
            if recipe.augment or recipe.mixup or recipe.cutmix:
                raise InputError("Guidance needs to know where things are: set augment='', mixup=0 and cutmix=0.")
            masks = find_annotations(self.source, split, share=recipe.guide_share, seed=recipe.seed)
            self.say(f"Guidance by {len(masks)} annotated examples of {len(split)}.")
        return Examples(split, self.prepare, Augment(recipe) if augment else None, recipe.seed, masks)

    def run(self, *, devices: int | str, nodes: int, strategy: str, accelerator: str) -> dict[str, Any]:
        """Train, judge, save; the caller's warnings and random generator are as before."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), readable_errors():
            quiet()
            return self.work(devices=devices, nodes=nodes, strategy=strategy, accelerator=accelerator)

    def work(self, *, devices: int | str, nodes: int, strategy: str, accelerator: str) -> dict[str, Any]:
        """`run` without its surroundings."""
        recipe = self.recipe
        trainer = make_trainer(recipe, self.place, devices, nodes, strategy, accelerator)
        self.trainer = trainer
        world, rank = trainer.world_size, trainer.global_rank
        checkpoint, told = self.place.read_checkpoint()
        for line in told:
            self.say(f"{line} Going on from the one before.")
        torch.manual_seed(seed_of(recipe.seed, 0))
        classes = self.data.classes
        channels = channels_of(self.splits.train, recipe, self.source)
        self.prepare = preprocess_of(recipe, channels)
        network, terms = build_network(recipe, len(classes), channels, names=classes, sync=world > 1)
        parts = self.part_size(world)
        order = Order(
            len(self.splits.train), parts, epochs=recipe.epochs, seed=recipe.seed, repeats=recipe.repeats, rank=rank, world=world
        )
        per_epoch = max(1, order.per_epoch // recipe.accumulate)
        order.per_epoch = per_epoch * recipe.accumulate
        self.module = Training(
            recipe, network, classes=len(self.data.classes), per_epoch=per_epoch, multi_label=self.data.multi_label
        )
        self.module.session = self
        teacher = self.module.guide.teacher if self.module.guide is not None else None
        if teacher is not None:
            teacher.check_classes(classes)
        known = (("began with weights", terms), ("learned from a teacher", teacher.terms if teacher is not None else None))
        self.terms = "; ".join(f"{how} {text}" for how, text in known if text) or None
        self.checkpoint = checkpoint
        done = int(checkpoint["torchbcos"]["done"]) if checkpoint else 0
        self.start = self.module.done = done
        order.start, order.stop = done * recipe.accumulate, recipe.max_steps * recipe.accumulate
        if checkpoint:
            self.best = dict(checkpoint["torchbcos"]["best"])
            self.module.loss_sum, self.module.losses = checkpoint["torchbcos"]["losses"]
            self.module.failures = list(checkpoint["torchbcos"]["failures"])
            self.seconds_before = float(checkpoint["torchbcos"]["seconds"])
        if done > self.total:
            said = f"has trained {done} steps, and the recipe now has {self.total}"
            raise InputError(f"{str(self.place.out)!r} {said}: choose another --out.")
        self.note_changes(done)
        self.history = History(self.place.history, done)
        self.announce(checkpoint is not None, done)
        if len(order):
            examples = self.examples(self.splits.train, augment=True)
            batches = loader(examples, order, recipe.workers, pin=torch.cuda.is_available())
            self.fit(batches)
        else:
            self.restore_weights()
        try:
            return self.finish()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted while judging; the same command finishes {self.place.out}.") from None

    def part_size(self, world: int) -> int:
        """Pictures of one part of a step, over all processes: fewer than asked for where there are too few.

        Raises:
            InputError: there are fewer pictures than parts and processes.
        """
        recipe, count = self.recipe, len(self.splits.train)
        asked = recipe.batch_size // recipe.accumulate
        if asked * recipe.accumulate <= count:
            return asked
        fitting = count // recipe.accumulate // world * world
        if fitting < 1:
            raise InputError(
                f"{count} pictures to train on are too few for steps of {recipe.accumulate} parts on {world} processes: "
                "set accumulate=1, or use fewer devices."
            )
        return min(asked, fitting)

    def fit(self, batches: Any) -> None:
        """All steps, or as many as Ctrl-C allows: the step is finished and kept, and the caller told where the run stands.

        Raises:
            KeyboardInterrupt: it came.
        """
        saved = f"step {self.module.done}"
        try:
            with answering_interrupts(self.stop, alone=self.trainer.world_size == 1):
                self.trainer.fit(self.module, batches)
        except Stopped:
            saved = f"step {self.module.done}"
        except SystemExit:  # what Lightning makes of a second Ctrl-C
            if not self.trainer.interrupted:
                raise
            saved = "its last checkpoint"
        else:
            return
        raise KeyboardInterrupt(f"interrupted; the same command goes on in {self.place.out} from {saved}.")

    def stop(self) -> None:
        """Stop after this step."""
        self.stopping = True
        self.say("Interrupted: finishing this step (once more: at once).")

    @property
    def total(self) -> int:
        """Optimiser steps of the whole run."""
        every = self.module.per_epoch * self.recipe.epochs
        return min(self.recipe.max_steps or every, every)

    def note_changes(self, done: int) -> None:
        """Write down which settings this session changes, so that the recipe's file does not pretend to know the whole run."""
        if self.before is None or not done:
            return
        passing = (*machine_keys(), "max_steps", "export")  # which leave the steps that there are as they are
        found = differences(self.before, self.recipe)
        changed = [f"{key} {old!r} -> {new!r}" for key, (old, new) in found.items() if key not in passing]
        if changed:
            self.changes.append(f"from step {done}: {', '.join(changed)}")
            self.say(f"Settings change {self.changes[-1]} (recipe.toml keeps note).")

    def announce(self, resumed: bool, done: int) -> None:
        """Say what begins, and write the resolved recipe."""
        recipe, per_epoch, total = self.recipe, self.module.per_epoch, self.total
        if self.trainer.is_global_zero:
            self.place.out.mkdir(parents=True, exist_ok=True)
            self.place.sweep()
            facts = {
                **provenance(), "data": str(self.source.absolute()), "kind": self.data.kind,
                "classes": list(self.data.classes), "pictures": len(self.data.train),
                "fingerprint": self.data.train.fingerprint(), **({"changes": self.changes} if self.changes else {}),
            }  # fmt: skip
            write_held_out(self.place, self.data, {"selection": self.splits.selection, "report": self.splits.report})
            with replacing(self.place.recipe, durable=True) as partial:
                partial.write_text(to_toml(recipe, facts), "utf-8")
            card = self.card({})
            if card is not None:
                write_json(self.place.card, card.to_dict())
        parameters = sum(p.numel() for p in self.module.network.parameters())
        if resumed:
            where = f"step {done} of {total} (epoch {min(done // per_epoch + 1, recipe.epochs)} of {recipe.epochs})"
            self.say(f"Going on in {self.place.out} from {where}.")
        else:
            kind = f"{recipe.model or recipe.pretrained}{' (plain)' if recipe.plain else ''}"
            self.say(
                f"{recipe.name}: {kind}, {parameters:,} parameters, {len(self.data.classes)} classes; "
                f"{self.splits.describe()}; {recipe.epochs} epochs of {per_epoch} steps"
                f"{f', of which {total} steps' if recipe.max_steps else ''}."
            )

    def say(self, text: str) -> None:
        """A line for the person, from one process only."""
        if self.trainer.is_global_zero:
            self.tell(text)

    def restore_weights(self) -> None:
        """Weights of the checkpoint, for a run whose steps are all done."""
        if self.checkpoint:
            self.module.load_state_dict(self.checkpoint["state_dict"])

    def restore(self) -> None:
        """Weights, optimiser and scaler of the checkpoint, once the strategy has set them up."""
        if not self.checkpoint:
            return
        strategy = cast(Any, self.trainer.strategy)
        strategy.load_model_state_dict(self.checkpoint)
        strategy.load_optimizer_state_dict(self.checkpoint)
        for group in self.trainer.optimizers[0].param_groups:  # the recipe decides, not what was saved with the state
            group["weight_decay"] = self.recipe.weight_decay if group["decays"] else 0.0
            if "momentum" in group:
                group["momentum"] = self.recipe.momentum
        plugin = self.trainer.precision_plugin
        saved = self.checkpoint.get(type(plugin).__qualname__)
        if saved:
            plugin.load_state_dict(saved)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights and optimiser."""
        module = self.module
        return {
            "done": module.done, "best": self.best, "seconds": self.seconds_before + time.time() - self.began,
            "losses": [module.loss_sum, module.losses], "failures": module.failures,
        }  # fmt: skip

    def watch(self) -> None:
        """Explanations and alignment of the same few pictures."""
        split = self.splits.selection or self.splits.train
        if not self.trainer.is_global_zero:
            return
        x, y = self.module.encoded(self.examples(split), list(range(min(PICTURES, len(split)))))
        writer = getattr(self.trainer.logger, "experiment", None)
        y = y.argmax(1) if self.data.multi_label else y  # the first label that holds
        numbers = log_explanations(writer, self.module.network, x, y.to(x.device), self.module.done)
        shown = {name: value for name, value in numbers.items() if name.startswith("watch/")}
        self.history.add({"step": self.module.done, **shown})

    def after_step(self) -> None:
        """Checkpoints, what is watched, and the end of an epoch."""
        module, recipe = self.module, self.recipe
        if module.done - self.start == WARM:
            self.warm = time.time()
        if self.progress is not None and self.trainer.is_global_zero:
            self.progress(self.so_far())
        stopping = self.stopping  # read once: it may change at any moment
        if recipe.watch_every and module.done % recipe.watch_every == 0:
            self.watch()
        if module.done % module.per_epoch == 0 or module.done == self.total:
            self.end_epoch()
            self.save(LAST)
            if recipe.keep_every and module.done % (recipe.keep_every * module.per_epoch) == 0:
                self.save(f"epoch-{module.epoch:04d}.ckpt")
        elif stopping or (recipe.checkpoint_steps and module.done % recipe.checkpoint_steps == 0):
            self.save(LAST)
        if stopping:
            raise Stopped

    def so_far(self) -> Progress:
        """How far the run is."""
        module, (rate, pipeline) = self.module, self.rates()
        total, steps, since = self.total, module.done - self.start, self.began
        if steps > WARM:
            steps, since = steps - WARM, self.warm
        left = (time.time() - since) / max(1, steps) * (total - module.done)
        loss = module.loss_sum / max(1, module.losses)
        epoch = min(module.epoch + 1, self.recipe.epochs)
        return Progress(module.done, total, epoch, self.recipe.epochs, loss, rate, pipeline, left)

    def save(self, name: str) -> None:
        """A checkpoint, unless the weights are no numbers."""
        if all(bool(t.isfinite().all()) for t in self.module.network.state_dict().values() if t.is_floating_point()):
            self.trainer.save_checkpoint(self.place.checkpoints / name)

    def end_epoch(self) -> None:
        """Judge on the selection split, keep the best, tell."""
        module, recipe = self.module, self.recipe
        epoch = -(-module.done // module.per_epoch)
        row: dict[str, Any] = {"step": module.done, "epoch": epoch, "loss": module.loss_sum / max(1, module.losses)}
        due = epoch % recipe.judge_every == 0 or module.done == self.total
        if self.splits.selection is not None and due:
            found = self.judge(self.splits.selection, module.judged(self.examples(self.splits.train)))
            row |= {f"selection_{name}": value for name, value in found.items()}
            value = found.get("top1", found.get("map", 0.0))
            if value > self.best["score"]:
                self.best = {"score": value, "epoch": epoch}
                if self.trainer.is_global_zero:
                    self.place.write_checkpoint(BEST, {"state": module.judged(None).state_dict(), **self.best})
        elif module.average is not None and module.done == self.total:
            module.judged(self.examples(self.splits.train))  # norm statistics of the averaged weights, for the checkpoint
        rates = self.rates()
        row |= {"pictures_per_second": rates[0], "pipeline_per_second": rates[1]}
        row["seconds"] = round(self.seconds_before + time.time() - self.began, 1)
        if self.trainer.is_global_zero:
            self.history.add(row)
            if self.trainer.logger is not None:
                self.trainer.logger.log_metrics({k: float(v) for k, v in row.items()}, step=module.done)
        shown = [name for name in ("top1", "map") if f"selection_{name}" in row]
        score = "".join(f", {name} {row['selection_' + name]:.1f} %" for name in shown)
        self.say(f"epoch {epoch}/{recipe.epochs}: loss {row['loss']:.4f}{score}; {rates[0]:.0f} pictures/s, "
                 f"the data could give {rates[1]:.0f}; {clock(self.so_far().left)} left")  # fmt: skip
        module.loss_sum, module.losses, module.pipeline_seconds, module.pictures, self.busy = 0.0, 0, 0.0, 0, 0.0

    def rates(self) -> tuple[float, float]:
        """Pictures a second of the steps, and what the workers could read, over all processes."""
        module, world = self.module, self.trainer.world_size
        step = world * module.pictures / self.busy if self.busy else 0.0
        readers = world * max(1, self.recipe.workers)
        pipeline = readers * module.pictures / module.pipeline_seconds if module.pipeline_seconds else 0.0
        return round(step, 1), round(pipeline, 1)

    def judge(self, split: Split, network: nn.Module) -> dict[str, float]:
        """Metrics of a network on a split of whole pictures."""
        rank, world = processes()
        rows = whole_batches(len(split), 64, rank, world)
        batches = loader(self.examples(split), cast(Any, rows), self.recipe.workers)
        probability = "softmax" if self.recipe.loss == "cross_entropy" else "sigmoid"
        return self.module.judge(network, zip(rows, batches, strict=True), probability)

    def finish(self) -> dict[str, Any]:
        """Choose the weights, judge them once on the reported split, and write the model and the report."""
        recipe, module = self.recipe, self.module
        module.to(cast(Any, self.trainer.strategy).root_device)  # Lightning brings it to the processor at the end of `fit`
        which = recipe.export
        if which == "auto":
            which = "ema" if module.average is not None else "best" if self.splits.selection is not None else "last"
        network = module.judged(self.examples(self.splits.train), which)
        if which == "best":
            network.load_state_dict(self.place.read_best())
        found = {name: self.judge(split, network) for name in ("selection", "report") if (split := getattr(self.splits, name))}
        module.failures = everyones(module.failures)
        report: dict[str, Any] = {
            "recipe": recipe.name, "epochs": recipe.epochs, "max_steps": recipe.max_steps, "steps": module.done, "export": which,
            "best_epoch": self.best.get("epoch"), "parameters": sum(p.numel() for p in network.parameters()),
            "seconds": round(self.seconds_before + time.time() - self.began, 1), "unreadable": sorted(set(module.failures)),
        }  # fmt: skip
        report |= {name: {key: round(value, 4) for key, value in scores.items()} for name, scores in found.items()}
        if self.trainer.is_global_zero:
            self.write_model(network, report)
            write_json(self.place.report, report)
        self.say(f"Done in {clock(report['seconds'])}: {summary(report)}. The model is in {self.place.model}.")
        if module.failures:
            self.say(f"{len(set(module.failures))} files could not be read and were skipped; report.json names them.")
        return report

    def write_model(self, network: nn.Module, report: Mapping[str, Any]) -> None:
        """The model folder, with a card that says what it is."""
        network = network.cpu().eval()
        card = self.card(report)
        if card is None:  # a network of the user's own: its weights, without a card
            self.place.write_own_weights(network.state_dict())
            return
        zoo.write_model(network, card, self.place.model)

    def card(self, report: Mapping[str, Any]) -> zoo.Card | None:
        """What the network is; None for one that `create_model` did not make."""
        try:
            card = zoo.card_of(self.module.network)
        except InputError:
            return None
        found = report.get("report") or report.get("selection") or {}
        return dataclasses.replace(
            card, name=self.recipe.name, classes=tuple(self.data.classes), preprocess=self.prepare.to_dict(),
            probability="softmax" if self.recipe.loss == "cross_entropy" and not self.data.multi_label else "sigmoid",
            top1=round(found["top1"], 3) if "top1" in found else None, recipe=to_dict(self.recipe), terms=self.terms,
            measured=f"{'reported' if 'report' in report else 'selection'} split of {self.source.name}" if found else None,
            notes={"made by": "torchbcos train", "epochs": self.recipe.epochs, "seconds": report.get("seconds")},
        )  # fmt: skip
