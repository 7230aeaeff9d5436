"""`torchbcos models`: what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchbcos.cli.check import check_weights
from torchbcos.cli.common import Device, given_path, print_json, say, tell, usage_errors
from torchbcos.cli.completing import model_names

__all__ = ["models"]


def models(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN", help="A part of a name, or a wildcard in quotes such as 'resnet*'.", autocompletion=model_names
        ),
    ] = "*",
    json: Annotated[bool, typer.Option("--json", metavar="", help="Print a JSON list, one record for each network.")] = False,
    # until 1.0: what is 'torchbcos check NAME' now
    verify: Annotated[str | None, typer.Option("--verify", metavar="NAME", hidden=True)] = None,
    weights: Annotated[Path | None, typer.Option("--weights", parser=given_path, hidden=True)] = None,
    data: Annotated[Path | None, typer.Option("--data", parser=given_path, hidden=True)] = None,
    labels: Annotated[Path | None, typer.Option("--labels", parser=given_path, hidden=True)] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, hidden=True)] = 16,
    device: Annotated[Device, typer.Option("--device", hidden=True)] = Device.auto,
) -> None:  # fmt: skip
    """List networks and which of them have weights."""
    if verify is not None:
        say("torchbcos: 'torchbcos models --verify NAME' is called 'torchbcos check NAME' now; the old name goes with 1.0.")
        code = check_weights(
            verify, weights=weights, data=data, labels=labels, batch_size=batch_size, device=device.value, json=json
        )  # fmt: skip
        raise typer.Exit(code)
    for option, value in {"--weights": weights, "--data": data, "--labels": labels}.items():
        if value is not None:
            say(f"torchbcos: {option} belongs to 'torchbcos check NAME'.")
            raise typer.Exit(2)
    _list_networks(pattern, json=json)


def _list_networks(pattern: str, *, json: bool) -> None:
    """A line a network: its name, where weights are, its size, and what its card says of its accuracy."""
    import fnmatch

    from torchbcos._core.names import hint, natural_key
    from torchbcos.zoo import list_models
    from torchbcos.zoo.card import official_cards
    from torchbcos.zoo.sources import embedded_folder, embedded_names
    from torchbcos.zoo.store import read_card

    with usage_errors():
        pattern = _widened(pattern, [*list_models(), *official_cards(), *embedded_names()])
        embedded = fnmatch.filter(embedded_names(), pattern)
        cards = {**official_cards(), **{name: read_card(embedded_folder() / name) for name in embedded}}
        names = sorted({*list_models(pattern), *fnmatch.filter(cards, pattern), *embedded}, key=natural_key)
        if not names:
            known = [*list_models(), *cards, *embedded_names()]
            say(f"torchbcos: no model matches {pattern!r}.{hint(pattern, known)} Wildcards help: 'resnet*'.")
            raise typer.Exit(2)
        records: list[dict[str, Any]] = []
        for name in names:
            card = cards.get(name)
            weights = "embedded" if name in embedded else ("official" if card else None)
            records.append({"name": name, "weights": weights, "top1": card.top1 if card else None,
                            "parameters": card.parameters if card else None,
                            "measured": card.measured if card else None})  # fmt: skip
    if json:
        print_json(records)
        return
    for r in records:
        where = (r["measured"] or "").partition(",")[0]
        top1 = f"{r['top1']:.1f} % top-1 on {where}" if r["top1"] is not None else ""
        size = f"{r['parameters'] / 1e6:.1f} M" if r["parameters"] is not None else ""
        tell(f"{r['name']:34} {r['weights'] or '–':9} {size:>8} {top1}".rstrip())
    used = next((r["name"] for r in records if r["weights"]), None)
    if used is not None:
        say(f"Next: torchbcos explain photo.jpg --model {used} (official weights are downloaded once).")
    say(
        "Any other classifier: --model timm:NAME, torchvision:NAME, import:package.module:builder or FILE.pt2, with "
        "--weights FILE where it has none."
    )
    if any(r["weights"] is None for r in records):
        say("Those with – have no weights yet: torchbcos.create_model(NAME) builds one, 'torchbcos train' trains it.")


def _widened(pattern: str, known: list[str]) -> str:
    """A part of names as a pattern that finds them; a name, a pattern, and what is part of none as they are.

    >>> _widened("net1", ["resnet18"]), _widened("resnet18", ["resnet18"]), _widened("zebra", ["resnet18"])
    ('*net1*', 'resnet18', 'zebra')
    """
    if set(pattern) & set("*?[") or pattern in known or not any(pattern.lower() in name for name in known):
        return pattern
    return f"*{pattern.lower()}*"
