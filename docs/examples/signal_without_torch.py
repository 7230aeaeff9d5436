"""Predict and explain an array with onnxruntime and numpy alone: python signal_without_torch.py beats.onnx signal.npy"""

import json
import sys

import numpy as np
import onnxruntime

model, file = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
facts = json.loads(session.get_modelmeta().custom_metadata_map["torchbcos"])
signal = np.load(file).astype(np.float32)
logits, targets, _, contributions, constants = session.run(None, {facts["input"]: signal[None]})
why = contributions[0, 0]
total = why.sum() + constants[0, 0].sum()
print(
    f"{facts['classes'][targets[0, 0]]}: logit {logits[0, targets[0, 0]]:.2f}; contributions and constants add up to {total:.2f}"
)
print(f"sample {why.argmax()} speaks most for it, sample {why.argmin()} most against it")
