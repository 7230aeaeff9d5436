"""Options as other programs call them, and what they are here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["OPTIONS", "option_here"]


def _all(words: str, option: str, sentence: str = "") -> dict[str, tuple[str, str]]:
    return dict.fromkeys(words.split(), (option, sentence or f"It is '{option}' here."))


# word -> the option that it is where a command has it, and a sentence
OPTIONS: Mapping[str, tuple[str, str]] = {
    **_all("csv tsv xlsx excel table", "--json", "It is '--json' here: records; there is no CSV."),
    **_all("verbose-json jsonl", "--json"),
    **_all(
        "window level width window-level window-width wl ww hu", "--range",
        "It is '--range LOW..HIGH' here, black and white: the window 40/400 is --range -160..240.",
    ),
    **_all("value-range min max vmin vmax clip bits", "--range", "It is '--range LOW..HIGH' here, black and white."),
    **_all("output outdir out-dir output-dir save save-dir dest destination project", "--out"),
    **_all("weights network net arch resume-from", "--model"),
    **_all(
        "checkpoint ckpt state-dict pretrained-path checkpoint-path", "--weights",
        "A file of weights is '--weights FILE' here, and '--model' names its network; a model's or a run's folder is '--model'.",
    ),
    **_all("gpu gpus cuda cpu mps accelerator", "--device"),
    **_all("topk top", "--top-k"),
    **_all("target targets label class-index class-name", "--class"),
    **_all("input dataset data-dir data-path root source", "--data"),
    **_all("batch bs", "--batch-size"),
    **_all("trust trust-remote-code unsafe", "--allow-code"),
    **_all("letterbox resize pad whole", "--fit"),
    **_all("ext extension suffix filetype pdf png", "--format"),
    **_all("numpy npz npy save-arrays", "--arrays"),
    **_all("plane view orientation axial coronal sagittal", "--axis"),
    **_all("overwrite no-clobber continue", "--skip-existing"),
    **_all("dynamic opset input-shape imgsz shape", "--size"),
}  # fmt: skip


def option_here(word: str, options: Iterable[str], settings: Mapping[str, str] | None = None) -> str:
    """What an option of other programs is here, in a sentence; "" where nobody knows, or this command has it not.

    Args:
        word: as it was typed, "--csv".
        options: of the command, "--json" and so on.
        settings: of a recipe, where the command takes them: each word, and what a message says of it.

    >>> option_here("--csv", ["--json"]), option_here("--epochs", ["--set"], {"epochs": "It is '--set epochs=…' here."})
    ("It is '--json' here: records; there is no CSV.", "It is '--set epochs=…' here.")
    >>> option_here("--csv", ["--out"])
    ''
    """
    bare = word.lstrip("-").lower().replace("_", "-")
    option, sentence = OPTIONS.get(bare, ("", ""))
    return sentence if option in set(options) else (settings or {}).get(bare.replace("-", "_"), "")
