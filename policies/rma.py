"""RMA's adaptation module: what a robot did lately tells what it is (Kumar et al. 2021, section III-B and appendix).

https://arxiv.org/abs/2107.04034. `B` batch, `T` time, `I` inputs, `Z` extrinsics.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# The paper keeps 50 steps; its convolutions, of kernels 8, 5, 5 and strides 4, 1, 1, see 48 of them.
WINDOW = 48
STRIDE = 4


class AdaptationModule(nn.Module):
    """Steps are embedded one by one and convolved over time; tanh, because ONNX Runtime's ReLU may hide a NaN."""

    def __init__(self, size_in: int, size_out: int, channels: int) -> None:
        super().__init__()
        self.embed = nn.Linear(size_in, channels)
        self.first = nn.Conv1d(channels, channels, 8)
        self.second, self.third = nn.Conv1d(channels, channels, 5), nn.Conv1d(channels, channels, 5)
        self.last = nn.Conv1d(channels, size_out, 3)  # over all that is left: a linear layer

    def forward(self, window: Tensor) -> Tensor:
        """The last steps (B, WINDOW, I), the newest at the end → extrinsics (B, Z)."""
        return self._convolve(window, STRIDE, 1)[:, 0]

    def along(self, sequence: Tensor) -> Tensor:
        """The same for every window of a sequence (B, WINDOW - 1 + T, I), (B, T, Z).

        Neighbouring windows share what their convolutions need, so that strides become dilations of the layers behind.
        """
        return self._convolve(sequence, 1, STRIDE)

    def _convolve(self, steps: Tensor, stride: int, dilation: int) -> Tensor:
        values = torch.tanh(self.embed(steps)).transpose(1, 2)
        values = torch.tanh(F.conv1d(values, self.first.weight, self.first.bias, stride=stride))
        for layer in (self.second, self.third):
            values = torch.tanh(F.conv1d(values, layer.weight, layer.bias, dilation=dilation))
        return F.conv1d(values, self.last.weight, self.last.bias, dilation=dilation).transpose(1, 2)
