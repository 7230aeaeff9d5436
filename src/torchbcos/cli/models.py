"""`torchbcos models`: what there is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torchbcos.cli.common import Json, print_json, say, usage_errors


def models(
    pattern: Annotated[str, typer.Argument(help="A wildcard such as 'resnet*'.")] = "*",
    json: Json = False,
) -> None:
    """List networks, and which of them have weights."""
    import fnmatch

    from torchbcos._core.names import hint, natural_key
    from torchbcos.zoo import list_models
    from torchbcos.zoo.card import official_cards
    from torchbcos.zoo.load import embedded_names

    with usage_errors():
        cards, embedded = official_cards(), fnmatch.filter(embedded_names(), pattern)
        names = sorted({*list_models(pattern), *fnmatch.filter(cards, pattern), *embedded}, key=natural_key)
        if not names:
            say(f"torchbcos: no model matches {pattern!r}.{hint(pattern, [*list_models(), *cards])}")
            raise typer.Exit(2)
        records: list[dict[str, Any]] = []
        for name in names:
            card = cards.get(name)
            weights = "embedded" if name in embedded else ("official" if card else None)
            records.append({"name": name, "weights": weights, "top1": card.top1 if card else None,
                            "parameters": card.parameters if card else None})  # fmt: skip
    if json:
        print_json(records)
        return
    for r in records:
        top1 = f"{r['top1']:.1f} % top-1" if r["top1"] is not None else ""
        size = f"{r['parameters'] / 1e6:.1f} M" if r["parameters"] is not None else ""
        print(f"{r['name']:34} {r['weights'] or '–':9} {size:>8} {top1}".rstrip())
