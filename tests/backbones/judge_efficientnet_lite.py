"""What the implementation in PyTorch answers; run in `.venv-keras` (Opsin is not in there)."""

import sys

import numpy as np

if __name__ == "__main__":
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    name, weights, images, answers = sys.argv[1:]
    network = EfficientNet.from_pretrained(name, weights_path=weights).eval()
    with torch.no_grad():
        np.save(answers, network(torch.from_numpy(np.load(images))).numpy())
