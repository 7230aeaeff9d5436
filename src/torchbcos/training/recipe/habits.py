"""Settings as other programs call them, and what they are here: a nearest word would mislead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torchbcos._core.names import hint, said

__all__ = ["ELSEWHERE", "tail"]


_SELECT = "It is 'selection_share' here; a column 'split' in a table divides the data, too"
_TOGETHER = "Scans of one patient stay on one side, and so does what shares a 'group' in a table"
_REPORT = "It is 'report_share' here; a column 'split' in a table divides the data, too"
_OUTSIDE = "It is no part of a recipe: the command line has --device, --devices, --out and --data"

ELSEWHERE: Mapping[str, str] = {
    **said("learning_rate base_lr init_lr lr0 max_lr", "It is 'lr' here"),
    **said("min_lr final_lr lrf eta_min", "It is 'lr_end' here"),
    **said("warmup_lr warmup_lr_init", "It is 'warmup_start' here"),
    **said("warmup", "It is 'warmup_epochs' or 'warmup_steps' here"),
    **said("lr_scheduler sched scheduler", "It is 'schedule' here"),
    **said("decay_rate lr_decay", "It is 'gamma' of schedule=step here"),
    **said("decay_epochs", "It is 'step_size' of schedule=step here"),
    **said("num_epochs n_epochs max_epochs num_train_epochs epoch", "It is 'epochs' here"),
    **said("iterations max_iter total_steps", "It is 'max_steps' here"),
    **said("batch bs per_device_train_batch_size train_batch_size", "It is 'batch_size' here"),
    **said("gradient_accumulation_steps grad_accum accumulate_grad_batches grad_accum_steps", "It is 'accumulate' here"),
    **said("wd l2", "It is 'weight_decay' here"),
    **said("opt optim", "It is 'optimizer' here"),
    **said("label_smoothing", "It is 'smoothing' here"),
    **said("criterion loss_fn", "It is 'loss' here"),
    **said("num_labels num_classes n_classes nb_classes", "The data has the classes: nothing is set"),
    **said("in_chans in_channels num_channels", "It is 'channels' here, as they are before they are encoded"),
    **said("arch architecture model_name net network backbone", "It is 'model' here"),
    **said("imgsz img_size input_size resolution crop_size train_crop_size", "It is 'image_size' here"),
    **said("val_crop_size test_input_size", "It is 'test_size' here"),
    **said("val_split split validation_split val_size val_share", _SELECT),
    **said("test_split test_share", _REPORT),
    **said("group groups patient patients patient_id series", _TOGETHER),
    **said("num_workers dataloader_num_workers", "It is 'workers' here"),
    **said("amp fp16 bf16 mixed_precision half", "It is 'precision' here"),
    **said("clip_grad max_norm grad_clip max_grad_norm clip_grad_norm gradient_clip_val", "It is 'clip' and 'clip_value' here"),
    **said("aa auto_augment", "It is 'augment' here"),
    **said("reprob random_erase random_erasing", "It is 'erasing' here"),
    **said("hflip horizontal_flip fliplr", "It is 'flip' here"),
    **said("color_jitter colour_jitter", "It is 'brightness' here"),
    **said("ema model_ema model_ema_decay", "It is 'ema_decay' here"),
    **said("drop_path drop_path_rate", "It is 'options.stochastic_depth' here, of networks with residual branches"),
    **said("norm max_out b antialias temperature logit_bias stochastic_depth", "The network's own are 'options.NAME'"),
    **said("range window", "It is 'value_range' here, or --range on the command line"),
    **said("freeze freeze_backbone", "It is 'freeze_epochs' here"),
    **said("eval_interval val_interval check_val_every_n_epoch", "It is 'judge_every' here"),
    **said("patience early_stopping", "No run stops early; export=best keeps the best epoch"),
    **said("device devices out output_dir data", _OUTSIDE),
}  # fmt: skip


def tail(word: str, known: Iterable[str]) -> str:
    """A tail for the message that there is no such setting: what it is here, else the nearest names.

    >>> tail("learning_rate", ["erasing"]), tail("eraser", ["erasing"])
    (" It is 'lr' here.", " Did you mean 'erasing'?")
    """
    instead = ELSEWHERE.get(word.lower().replace("-", "_"))
    return f" {instead}." if instead else hint(word, known)
