"""Settings as other programs call them, and what they are here: a nearest word would mislead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torchbcos._core.names import hint

__all__ = ["ELSEWHERE", "tail"]


def _all(words: str, sentence: str) -> dict[str, str]:
    return dict.fromkeys(words.split(), sentence)


_SELECT = "It is 'selection_share' here; a column 'split' in a table divides the data, too"
_TOGETHER = "Scans of one patient stay on one side, and so does what shares a 'group' in a table"
_REPORT = "It is 'report_share' here; a column 'split' in a table divides the data, too"
_OUTSIDE = "It is no part of a recipe: the command line has --device, --devices, --out and --data"

ELSEWHERE: Mapping[str, str] = {
    **_all("learning_rate base_lr init_lr lr0 max_lr", "It is 'lr' here"),
    **_all("min_lr final_lr lrf eta_min", "It is 'lr_end' here"),
    **_all("warmup_lr warmup_lr_init", "It is 'warmup_start' here"),
    **_all("warmup", "It is 'warmup_epochs' or 'warmup_steps' here"),
    **_all("lr_scheduler sched scheduler", "It is 'schedule' here"),
    **_all("decay_rate lr_decay", "It is 'gamma' of schedule=step here"),
    **_all("decay_epochs", "It is 'step_size' of schedule=step here"),
    **_all("num_epochs n_epochs max_epochs num_train_epochs epoch", "It is 'epochs' here"),
    **_all("iterations max_iter total_steps", "It is 'max_steps' here"),
    **_all("batch bs per_device_train_batch_size train_batch_size", "It is 'batch_size' here"),
    **_all("gradient_accumulation_steps grad_accum accumulate_grad_batches grad_accum_steps", "It is 'accumulate' here"),
    **_all("wd l2", "It is 'weight_decay' here"),
    **_all("opt optim", "It is 'optimizer' here"),
    **_all("label_smoothing", "It is 'smoothing' here"),
    **_all("criterion loss_fn", "It is 'loss' here"),
    **_all("num_labels num_classes n_classes nb_classes", "The data has the classes: nothing is set"),
    **_all("in_chans in_channels num_channels", "It is 'channels' here, as they are before they are encoded"),
    **_all("arch architecture model_name net network backbone", "It is 'model' here"),
    **_all("imgsz img_size input_size resolution crop_size train_crop_size", "It is 'image_size' here"),
    **_all("val_crop_size test_input_size", "It is 'test_size' here"),
    **_all("val_split split validation_split val_size val_share", _SELECT),
    **_all("test_split test_share", _REPORT),
    **_all("group groups patient patients patient_id series", _TOGETHER),
    **_all("num_workers dataloader_num_workers", "It is 'workers' here"),
    **_all("amp fp16 bf16 mixed_precision half", "It is 'precision' here"),
    **_all("clip_grad max_norm grad_clip max_grad_norm clip_grad_norm gradient_clip_val", "It is 'clip' and 'clip_value' here"),
    **_all("aa auto_augment", "It is 'augment' here"),
    **_all("reprob random_erase random_erasing", "It is 'erasing' here"),
    **_all("hflip horizontal_flip fliplr", "It is 'flip' here"),
    **_all("color_jitter colour_jitter", "It is 'brightness' here"),
    **_all("ema model_ema model_ema_decay", "It is 'ema_decay' here"),
    **_all("drop_path drop_path_rate", "It is 'options.stochastic_depth' here, of networks with residual branches"),
    **_all("norm max_out b antialias temperature logit_bias stochastic_depth", "The network's own are 'options.NAME'"),
    **_all("range window", "It is 'value_range' here, or --range on the command line"),
    **_all("freeze freeze_backbone", "It is 'freeze_epochs' here"),
    **_all("eval_interval val_interval check_val_every_n_epoch", "It is 'judge_every' here"),
    **_all("patience early_stopping", "No run stops early; export=best keeps the best epoch"),
    **_all("device devices out output_dir data", _OUTSIDE),
}  # fmt: skip


def tail(word: str, known: Iterable[str]) -> str:
    """A tail for the message that there is no such setting: what it is here, else the nearest names.

    >>> tail("learning_rate", ["erasing"]), tail("eraser", ["erasing"])
    (" It is 'lr' here.", " Did you mean 'erasing'?")
    """
    instead = ELSEWHERE.get(word.lower().replace("-", "_"))
    return f" {instead}." if instead else hint(word, known)
