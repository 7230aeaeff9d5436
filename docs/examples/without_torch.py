"""Predict and explain with onnxruntime, numpy and Pillow alone: python without_torch.py why.onnx photo.jpg why.png"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def read(path, facts):
    """A photo as the file takes it: bytes (1, H, W, 3), or (1, H, W) of grey, resized and cropped as `torchbcos` does it."""
    rule = facts["preprocess"]
    photo = Image.open(path).convert("L" if rule.get("raw_channels") == 1 else "RGB")
    if rule["resize"]:
        longer = int(rule["resize"] * max(photo.size) / min(photo.size))
        wanted = (rule["resize"], longer) if photo.width <= photo.height else (longer, rule["resize"])
        photo = photo.resize(wanted, Image.Resampling[rule["interpolation"].upper()])
    if rule["crop"]:
        left, top = ((-((rule["crop"] - n) // 2) if n < rule["crop"] else round((n - rule["crop"]) / 2)) for n in photo.size)
        photo = photo.crop((left, top, left + rule["crop"], top + rule["crop"]))
    return np.asarray(photo)[None]


def rgba(weights, contributions, smooth=15, percentile=99.5):
    """The paper's picture (H, W, 4) of W (6, H, W), grey (2, H, W): colour from pairs of channels, opacity from its length."""
    w = weights / (np.abs(weights).max() or 1)
    mean = lambda row: np.convolve(row, np.ones(smooth))[smooth // 2 :][: len(row)]
    alpha = np.where(contributions < 0, 0, np.linalg.norm(w, axis=0))
    for axis in (0, 1):
        alpha = np.apply_along_axis(lambda row: mean(row) / mean(np.ones_like(row)), axis, alpha)
    limit = np.percentile(alpha, percentile) or alpha.max() or 1
    wanted = np.maximum(w / (np.abs(w).max(0) + 1e-12), 0)
    half = len(w) // 2
    colour = wanted[:half] / (wanted[:half] + wanted[half:] + 1e-12)
    return np.concatenate([*[colour] * (3 // half), np.minimum(alpha / limit, 1)[None]]).transpose(1, 2, 0)


def probabilities(logits, facts):
    """Of every class (N, classes): the temperature divides logits here, and nowhere else."""
    scaled = logits / (facts["temperature"] or 1)
    if facts["probability"] == "sigmoid":
        return np.exp(-np.logaddexp(0, -scaled))
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def heatmap(contributions, percentile=99.5):
    """The signed map (..., 3) of contributions, of any number of axes: blue against, white nothing, red for."""
    limit = np.percentile(np.abs(contributions), percentile) or np.abs(contributions).max() or 1
    v = np.clip(contributions / limit, -1, 1)
    return np.stack([1 - np.maximum(-v, 0), 1 - np.abs(v), 1 - np.maximum(v, 0)], -1)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python without_torch.py MODEL.onnx PHOTO OUT.png")
    model, photo, picture = sys.argv[1:]
    session = onnxruntime.InferenceSession(model)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["torchbcos"])
    logits, targets, weights, contributions, constants = session.run(None, {facts["input"]: read(photo, facts)})
    total = contributions[0, 0].sum() + constants[0, 0].sum()
    name, share = facts["classes"][targets[0, 0]], probabilities(logits, facts)[0, targets[0, 0]]
    print(f"{name} ({share:.1%}): logit {logits[0, targets[0, 0]]:.4f}, the picture and the constants give {total:.4f}")
    drawn = rgba(weights[0, 0], contributions[0, 0])
    white = drawn[..., :3] * drawn[..., 3:] + 1 - drawn[..., 3:]
    both = np.concatenate([white, heatmap(contributions[0, 0])], 1)
    Image.fromarray((255 * both).round().astype("uint8")).save(picture)
