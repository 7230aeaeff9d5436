"""The settings of a recipe, in groups: each is written down once, with its text, unit and range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torchbcos._core.errors import InputError
from torchbcos.training.recipe.setting import setting, settings_of

__all__ = [
    "GROUPS", "PROGRAM", "GuidanceSettings", "MachineSettings", "NameSettings", "NetworkSettings", "OptimisationSettings",
    "PictureSettings",
]  # fmt: skip

PROGRAM = ".pt2"  # of torch.export.save


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What all groups share: every value is checked against its range and its choices when it is made."""

    def __post_init__(self) -> None:
        found = settings_of(type(self))
        for key, one in found.items():
            one.check_range(getattr(self, key))
        for key, one in found.items():
            one.check_choice(getattr(self, key))


@dataclass(frozen=True, kw_only=True)
class NameSettings(_Settings):
    """What the recipe is called."""

    name: str = setting("custom", "name of the recipe, and of the run's folder where --out gives no other", resume="free")
    about: str = setting("", "one line about the recipe, which `torchbcos train --list` prints", resume="free")


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(_Settings):
    """Which network is trained, and what it starts from."""

    model: str = setting(
        "resnet18", 'network to build: a name that `torchbcos models` lists, or "package.module:function", which returns one '
        "and is called with those of num_classes, in_channels and options.KEY that it takes (in a recipe file: with --allow-code "
        "only)",
        resume="fixed",
    )  # fmt: skip
    options: Mapping[str, Any] = setting(
        {}, "arguments of the network such as antialias, norm, max_out or stochastic_depth; options.KEY=value sets one",
        resume="fixed",
    )  # fmt: skip
    plain: bool = setting(False, "train the ordinary network of the same shape instead of the B-cos network", resume="fixed")
    pretrained: str = setting(
        "", 'what to start from: a model folder, "imagenette", a name with official weights, or "official" for those of `model`; '
        "the classifier starts anew, unless the data has the same classes in the same order; empty means random weights",
        resume="fixed",
    )  # fmt: skip
    freeze_epochs: int = setting(0, "first epochs in which only the classifier learns", unit="epochs", low=0, high=10**6)
    refresh: bool = setting(
        True, "give the unit-norm filters of a pretrained network the length of new ones: its outputs stay the same, and it "
        "learns as fast as a new network",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PictureSettings(_Settings):
    """How pictures are cut, changed and divided."""

    channels: int = setting(
        0, "channels of an example before it is encoded: 3 reads pictures in colour, 1 as grey; 0 means those of the data, or of "
        "`pretrained`", unit="channels", low=0, high=4096, resume="fixed",
    )  # fmt: skip
    axes: int = setting(
        0, "axes of space of an example: 1 of signals (C, L), 2 of pictures (C, H, W), 3 of volumes (C, D, H, W), each with or "
        "without the axis of a single channel; 0 means those that the network takes, or that the data shows", unit="axes",
        low=0, high=3, resume="fixed",
    )  # fmt: skip
    normalize: str = setting(
        "", 'what colours are brought to first: means of the channels, such as "0.74 0.70 0.71", and spreads behind a /; or '
        '"imagenet"; a B-cos network does so itself, exactly; empty means that of ImageNet for ordinary networks, nothing for '
        "B-cos networks", resume="fixed",
    )  # fmt: skip
    value_range: tuple[float, float] = setting(
        (0.0, 0.0), "stored numbers that become 0 and 1, such as [0, 4095] or [-160, 240]; what lies outside is cut; [0, 0] "
        "means what the files say or their types hold", resume="fixed",
    )  # fmt: skip
    uncertain: Literal["error", "ignore", "positive", "negative"] = setting(
        "error", 'what a label of -1 in a table means: "ignore" leaves it out of loss and metrics, "positive" takes it as 1, '
        '"negative" as 0, "error" refuses it', resume="fixed",
    )  # fmt: skip
    image_size: int = setting(224, "side of the training crops", unit="pixels", low=8, high=4096)
    grow_from: int = setting(
        0, "side of the crops in the first epochs; they grow by 32 pixels at a time up to image_size; 0 means image_size from "
        "the start", unit="pixels", low=0, high=4096,
    )  # fmt: skip
    test_size: int = setting(
        0, "side of the pictures that the network is judged on; 0 means image_size", unit="pixels", low=0, high=4096
    )
    test_resize: int = setting(
        0, 'shorter side of a picture before its centre is cut out, to judge the network and for crop="none"; 0 means the side '
        "of that centre", unit="pixels", low=0, high=4096,
    )  # fmt: skip
    crop: Literal["random", "pad", "none"] = setting(
        "random", 'how training pictures are cut: "random" takes a part of random place and area, "pad" adds a border and cuts '
        'at a random place (as for CIFAR), "none" takes the centre',
    )  # fmt: skip
    crop_scale: tuple[float, float] = setting(
        (0.08, 1.0), 'smallest and largest area of a "random" crop, as parts of the picture'
    )
    crop_padding: int = setting(4, 'width of the border that crop="pad" adds', unit="pixels", low=0, high=512)
    flip: float = setting(0.5, "chance that a training picture is mirrored", low=0, high=1)
    brightness: float = setting(
        0.0, "largest change b of brightness: pixels are multiplied by a random factor from 1 - b to 1 + b",
        low=0, high=1,
    )  # fmt: skip
    augment: Literal["", "randaugment", "trivialaugment", "augmix"] = setting(
        "", "further random changes of training pictures, by their published names; empty means none"
    )
    augment_ops: int = setting(2, "changes that randaugment makes to each picture", unit="changes", low=1, high=20)
    augment_magnitude: int = setting(10, "strength of the changes that randaugment makes", low=0, high=30)
    erasing: float = setting(0.0, "chance that a random rectangle of a training picture is erased", low=0, high=1)
    mixup: float = setting(
        0.0, "alpha of the Beta distribution by which Mixup blends two pictures and their targets; 0 means no Mixup; where "
        "cutmix is on as well, each batch draws one of the two", low=0, high=100,
    )  # fmt: skip
    cutmix: float = setting(
        0.0, "alpha of the Beta distribution by which CutMix puts a part of one picture into another; 0 means no CutMix",
        low=0, high=100,
    )  # fmt: skip
    mix_chance: float = setting(1.0, "chance that Mixup or CutMix changes a batch", low=0, high=1)
    repeats: int = setting(
        1, "copies of each picture in an epoch, each augmented anew; the epoch keeps its length, and so sees fewer pictures",
        unit="copies", low=1, high=100, resume="fixed",
    )  # fmt: skip
    selection_share: float = setting(
        0.1, "part of the training data that is held out to choose the best epoch by", low=0, high=0.5,
        resume="fixed",
    )  # fmt: skip
    report_share: float = setting(
        0.1, "part of the training data that is held out for the report, where the data has no split for it",
        low=0, high=0.5, resume="fixed",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grow_from > self.image_size:
            raise InputError(f"grow_from {self.grow_from} is larger than image_size {self.image_size}: crops only grow.")
        black, white = self.value_range
        if not black < white and (black, white) != (0, 0):
            raise InputError(f"value_range is two numbers, that of 0 below that of 1, or [0, 0]; not {black:g} and {white:g}.")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise InputError(
                f"crop_scale must be two parts of a picture, 0 < smallest <= largest <= 1, not {low:g} and {high:g}."
            )


@dataclass(frozen=True, kw_only=True)
class OptimisationSettings(_Settings):
    """Steps, their size, the loss, and averaged weights."""

    epochs: int = setting(90, "passes over the training data", unit="epochs", low=1, high=10**6)
    max_steps: int = setting(
        0,
        "steps after which the run ends early; the schedule stays that of all epochs; 0 means never",
        unit="steps",
        low=0,
        high=10**9,
    )
    batch_size: int = setting(256, "pictures of one step, over all devices", unit="pictures", low=1, high=10**7, resume="fixed")
    accumulate: int = setting(
        1, "equal parts into which a step divides its pictures, so that they need less memory", unit="parts",
        low=1, high=10**5, resume="fixed",
    )  # fmt: skip
    optimizer: Literal["adam", "adamw", "sgd", "relative_adam"] = setting(
        "adam", 'optimiser: "adam", "adamw" and "sgd" of torch.optim; "relative_adam" is Adam with steps relative to the size of '
        "the weights, for converted networks", resume="fixed",
    )  # fmt: skip
    lr: float = setting(1e-3, "learning rate after warm-up", low=0, high=1e6)
    head_lr: float = setting(1.0, "learning rate of the classifier", unit="times lr", low=0, high=1e6)
    weight_decay: float = setting(0.0, "weight decay, as the optimiser of torch defines it", low=0, high=1e3)
    decay_all: bool = setting(
        True, "weight decay acts on biases and on the weights of norms, too, as in the official recipes", resume="fixed"
    )
    momentum: float = setting(0.9, "momentum of sgd", low=0, high=1)
    schedule: Literal["cosine", "step", "exponential", "constant"] = setting(
        "cosine", 'learning rate after warm-up: "cosine" falls to lr_end, "step" is multiplied by gamma every step_size epochs, '
        '"exponential" by gamma every epoch, "constant" stays',
    )  # fmt: skip
    schedule_by: Literal["epoch", "step"] = setting("step", "when the learning rate changes: with every epoch or every step")
    lr_end: float = setting(0.0, 'learning rate at the end of schedule="cosine"', low=0, high=1e6)
    step_size: int = setting(30, 'epochs between two changes of schedule="step"', unit="epochs", low=1, high=10**6)
    gamma: float = setting(0.1, 'factor of schedule="step" and "exponential"', low=0, high=1)
    warmup_epochs: float = setting(
        0.0, "epochs in which the learning rate rises linearly to lr; give these or warmup_steps", unit="epochs",
        low=0, high=10**6,
    )  # fmt: skip
    warmup_steps: int = setting(
        0, "steps in which the learning rate rises linearly to lr; give these or warmup_epochs", unit="steps", low=0, high=10**9
    )
    warmup_start: float = setting(0.01, "learning rate of the first step of the warm-up", unit="times lr", low=0, high=1)
    loss: Literal["bce", "bce_uniform", "cross_entropy", "none"] = setting(
        "bce", 'loss: "bce" is binary cross-entropy of every class, "bce_uniform" the same with targets of at least 1 / classes, '
        '"cross_entropy" that of the softmax; several labels for a picture always take "bce"; "none" aligns to `teacher`, '
        "without labels",
    )  # fmt: skip
    b_epochs: float = setting(
        0.0, "epochs in which the exponents B rise to those of the network; 0 means that they have them from the start",
        unit="epochs", low=0, high=10**6, resume="fixed",
    )  # fmt: skip
    b_start: float = setting(
        0.5,
        "with b_epochs: the part of B - 1 that layers begin with; 0 makes them linear at first",
        low=0,
        high=1,
        resume="fixed",
    )
    smoothing: float = setting(
        0.0,
        "part of every target that is spread evenly over the classes; where several labels hold for a picture, it becomes 1/2",
        low=0,
        high=1,
    )
    threshold: float = setting(
        0.0,
        "target above which binary cross-entropy takes 1, and below which it takes 0; 0 means that targets stay",
        low=0,
        high=1,
    )
    clip: Literal["", "agc", "norm"] = setting(
        "", 'bound on gradients: "agc" bounds those of each filter by its own norm (arXiv 2102.06171), "norm" bounds the norm of '
        "all; empty means none",
    )  # fmt: skip
    clip_value: float = setting(
        0.01, 'the bound: with clip="agc" as a multiple of the norm of the filter, with "norm" as a norm', low=0, high=1e9
    )
    ema_decay: float = setting(
        0.0, "part of the averaged weights that each update keeps; 0 means no averaged weights", low=0, high=1
    )
    ema_every: int = setting(1, "steps between two updates of the averaged weights", unit="steps", low=1, high=10**9)
    ema_from_epoch: int = setting(
        0, "first epochs in which the averaged weights are a copy of the network's", unit="epochs", low=0, high=10**6
    )
    ema_scaled: bool = setting(
        False, "an update moves the averaged weights by (1 - ema_decay) * batch_size * ema_every / epochs, as in torchvision's "
        "references; false means by 1 - ema_decay, and by more in the first updates",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_epochs and self.warmup_steps:
            raise InputError("Give warmup_epochs or warmup_steps, not both.")
        if self.optimizer == "relative_adam" and self.weight_decay:
            raise InputError("optimizer='relative_adam' has no weight decay: set weight_decay=0.")
        if self.batch_size % self.accumulate:
            parts = f"{self.accumulate} equal parts (accumulate)"
            raise InputError(f"batch_size {self.batch_size} cannot be divided into {parts}.")


@dataclass(frozen=True, kw_only=True)
class MachineSettings(_Settings):
    """How the machine works, what it writes and when."""

    precision: Literal["32", "bf16", "16"] = setting(
        "32", 'numbers that the network computes with: "32" is float32, "bf16" and "16" mix it with bfloat16 and float16'
    )
    channels_last: bool = setting(
        True, "keep the channels of a pixel side by side in memory, as torch.channels_last does", resume="free"
    )
    compile: bool = setting(False, "compile the network with torch.compile, which takes a while at the start", resume="free")
    seed: int = setting(
        42, "seed of all that is random: splits, first weights, order and augmentation", low=0, high=2**31, resume="fixed"
    )
    workers: int = setting(
        4, "processes that read pictures, for each device; 0 means that the training process reads", unit="processes",
        low=0, high=512, resume="free",
    )  # fmt: skip
    on_error: Literal["stop", "skip"] = setting(
        "stop", "what to do at a picture that cannot be read: stop the run, or skip the picture and count it", resume="free"
    )
    export: Literal["auto", "best", "last", "ema"] = setting(
        "auto", 'weights that the model gets: those of the "best" epoch, the "last" or the averaged ("ema") ones; "auto" takes '
        "the averaged weights if there are any, else the best, else the last",
    )  # fmt: skip
    calibrate: bool = setting(
        True, "fit a temperature on the selection split, which divides the logits of the model where they become probabilities, "
        "so that these come true; without a selection split there is none",
    )  # fmt: skip
    judge_every: int = setting(
        1, "epochs between two measurements on the selection split; the last epoch is always measured", unit="epochs",
        low=1, high=10**6, resume="free",
    )  # fmt: skip
    checkpoint_steps: int = setting(
        0, "steps between two checkpoints; 0 means only one at the end of each epoch", unit="steps",
        low=0, high=10**9, resume="free",
    )  # fmt: skip
    keep_every: int = setting(
        0, "epochs between two checkpoints that are kept for good; 0 means never", unit="epochs", low=0, high=10**6, resume="free"
    )
    watch_every: int = setting(
        0, "steps between two sets of explanations that go to TensorBoard; 0 means never", unit="steps",
        low=0, high=10**9, resume="free",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings(_Settings):
    """Training on explanations: by boxes or masks (`guide…`), or by a teacher (`teacher…`). See docs/how-to/guide.md."""

    guide: Literal["", "energy", "l1"] = setting(
        "", 'loss on explanations: "energy" is one minus the share of positive contribution inside the mask, "l1" the distance '
        'between mask and contributions (arXiv 2303.11932); empty means none',
    )  # fmt: skip
    guide_weight: float = setting(
        0.0, "weight of this loss beside the classification loss, both as means over pictures", low=0, high=1e6
    )
    guide_at: str = setting(
        "", 'module of the network whose contributions are guided, such as "layer2"; empty means those of the pixels'
    )
    guide_share: float = setting(1.0, "part of the annotated pictures that is used", low=0, high=1)
    guide_per_box: bool = setting(False, "take the mean over boxes, so that a small object counts as much as a large one")
    guide_size_corrected: bool = setting(False, "compare mean contributions inside and outside instead of sums")
    guide_order: Literal["full", "truncated"] = setting(
        "truncated", 'derivative of an explanation: "truncated" keeps the scales of B-cos layers constant, as published code '
        'does, "full" does not',
    )  # fmt: skip
    magnitude: float = setting(
        0.0, "weight of a loss on evidence that cancels: the log of the sum of the sizes of all contributions over that of the "
        "logit", low=0, high=1e6,
    )  # fmt: skip
    magnitude_share: float = setting(0.25, "with magnitude: the part of the pictures of a step that is explained", low=0, high=1)
    mosaic: float = setting(
        0.0, "weight of a loss on where evidence lies: pictures of a step become 2 x 2 grids, and what one of the four "
        "contributes to its class, net, is to be all that there is", low=0, high=1e6,
    )  # fmt: skip
    mosaic_at: str = setting(
        "", 'with mosaic: module of the network whose contributions count, such as "layer4"; empty means those of the pixels'
    )
    mosaic_share: float = setting(0.25, "with mosaic: the part of the pictures of a step that is put into grids", low=0, high=1)
    mosaic_smooth: int = setting(
        7, "with mosaic: side of the squares over which contributions are averaged first, an odd number", unit="pixels",
        low=1, high=255,
    )  # fmt: skip
    parts: float = setting(
        0.0, "weight of the losses of the first stage of a two-stage network, which make parts of patches (arXiv 2506.08915)",
        low=0, high=1e6,
    )  # fmt: skip
    teacher: str = setting(
        "",
        "network to learn from: a model folder, or a .pt2 program of any classifier (in a "
        'recipe file: with --allow-code only); with loss="none" the network that is converted and aligned, as "timm:NAME" too; '
        "empty means none",
    )
    teacher_weight: float = setting(0.0, "weight of the loss on the teacher's probabilities", low=0, high=1e6)
    teacher_explanations: float = setting(
        0.0, "weight of the loss on the teacher's explanations, which only a model folder has", low=0, high=1e6
    )

    teacher_features: float = setting(
        0.0, 'with loss="none": weight of the relative error of the outputs of the blocks of the network', low=0, high=1e6
    )
    teacher_pooled: float = setting(
        0.0, 'with loss="none": weight of one minus the cosine between what the classifiers take', low=0, high=1e6
    )
    teacher_temperature: float = setting(
        1.0, 'with loss="none": what divides both logits where probabilities are compared (`teacher_weight`)', low=0.01, high=100
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guide and not (self.guide_weight and self.guide_share):
            raise InputError(
                f"guide={self.guide!r} with guide_weight={self.guide_weight:g} and guide_share={self.guide_share:g} changes "
                "nothing: set guide_weight (0.3 to 1, to begin with) and a guide_share above 0."
            )
        if not self.mosaic_smooth % 2:
            raise InputError(f"mosaic_smooth is an odd number of pixels, not {self.mosaic_smooth}.")
        weights = (self.teacher_weight, self.teacher_explanations, self.teacher_features, self.teacher_pooled)
        if self.teacher and not any(weights):
            raise InputError("A teacher teaches nothing without teacher_weight or teacher_explanations: set one of them.")
        if self.teacher.endswith(PROGRAM) and self.teacher_explanations:
            raise InputError("A .pt2 program has no B-cos explanations to learn from: teacher_explanations needs a model folder.")


GROUPS: Mapping[str, type[_Settings]] = {
    "Recipe": NameSettings, "Network": NetworkSettings, "Pictures": PictureSettings, "Optimisation": OptimisationSettings,
    "Machine": MachineSettings, "Guidance": GuidanceSettings,
}  # fmt: skip
