"""The results as Markdown and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def cell(value: float | None) -> str:
    """A ratio as it is printed."""
    return "–" if value is None or value != value else f"{value:.2f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def write_report(results: dict[str, Any], out: Path) -> None:
    """Write results.md and ratios.png beside results.json."""
    machine = results["machine"]
    parts = [
        "# Speed and memory\n",
        f"Measured by `make bench` on {machine['processor']}, {machine['threads']} threads, device {machine['device']}, torch "
        f"{machine['torch']}, float32, 224 px. Works of one row were interleaved; a number is the median of at least "
        f"{machine['rounds']} paired ratios (fewer where samples were discarded because other processes disturbed them).\n",
    ]
    works: list[str] = []
    for network in results["networks"].values():
        works += [w for w in network["works"] if w not in works]
    for work in works:
        names: list[str] = []
        for network in results["networks"].values():
            names += [n for n in network["works"].get(work, {}).get("ms", {}) if n not in names]
        base = "plain" if "plain" in names else "plain forward"
        rows = []
        for name, network in results["networks"].items():
            row = network["works"].get(work)
            if row:
                rows.append([name, f"{row['ms'][base]:.0f} ms", *(cell(row["to plain"].get(n)) for n in names if n != base),
                             str(row["discarded"])])  # fmt: skip
        header = ["network", base, *(n for n in names if n != base), "discarded"]
        parts.append(f"## {work}, ÷ {base}\n\n{table(header, rows)}\n")
    rows = [[n, *(f"{r['saved MiB'].get(k, float('nan')):.0f}" for k in ("plain", "ours", "official"))]
            for n, r in results["networks"].items()]  # fmt: skip
    parts.append("## What a training step of 8 pictures keeps for its backward pass, MiB\n\n"
                 + table(["network", "plain", "ours", "official"], rows) + "\n")  # fmt: skip
    rows = [[n, *(cell(r["works"].get(f"inference ×{k}", {}).get("ours compiled to plain folded, compiled")) for k in (1, 8))]
            for n, r in results["networks"].items()]  # fmt: skip
    parts.append("## Inference: ours deployed and compiled, ÷ plain folded, channels_last and compiled\n\n"
                 + table(["network", "×1", "×8"], rows) + "\n")  # fmt: skip
    for name, rows in results.get("growth", {}).items():
        parts.append(f"## Growth, {name}, deployed\n")
        for what, row in rows.items():
            parts.append(f"{what}:\n\n" + table(list(map(str, row)), [[f"{v:.0f}" for v in row.values()]]) + "\n")
    skipped = {(n, w): why for n, r in results["networks"].items() for w, why in r.get("skipped", {}).items()}
    if skipped:
        parts.append("## Missing\n\n" + "\n".join(f"- {n}, {w}: {why}" for (n, w), why in skipped.items()) + "\n")
    (out / "results.md").write_text("\n".join(parts))
    plot(results, works, out / "ratios.png")


def plot(results: dict[str, Any], works: list[str], file: Path) -> None:
    """Ours and the official package, as multiples of the plain network."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(works), figsize=(3.1 * len(works), 3.6), sharey=True)
    networks = list(results["networks"])
    for axis, work in zip(axes, works, strict=True):
        axis.axvline(1, color="black", linewidth=0.8)
        for offset, (name, colour) in enumerate((("official", "#b0b0b0"), ("ours deployed", "#1f6f8b"), ("ours", "#1f6f8b"))):
            measured = [results["networks"][n]["works"].get(work, {}).get("to plain", {}) for n in networks]
            rows = [m.get(name) for m in measured]
            if not any(rows) or (name == "ours" and any("ours deployed" in m for m in measured)):
                continue
            axis.barh([i + 0.36 * min(offset, 1) for i in range(len(networks))], [r or 0 for r in rows], 0.34, color=colour,
                      label="torchbcos" if "ours" in name else "official")  # fmt: skip
        axis.set_title(work, fontsize=9)
        axis.set_yticks([i + 0.18 for i in range(len(networks))], networks, fontsize=8)
        axis.tick_params(axis="x", labelsize=8)
    axes[0].legend(fontsize=8, loc="lower right")
    fig.supxlabel("time, ÷ the plain network", fontsize=9)
    fig.tight_layout()
    fig.savefig(file, dpi=110)
