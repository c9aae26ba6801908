"""A backbone for small pictures and small machines, beside torchvision's.

ACT takes its backbone by name from ``torchvision.models``, so ``resnet_small`` is put there. A checkpoint that was
trained with it loads only where this package is installed. With torchvision's own ``resnet18``
(vendor.policy.vision_backbone) LeRobot alone can load the checkpoint, and a training step costs about four times as
much on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

NAME = "resnet_small"
WIDTH = 32  # channels of the first stage, half of ResNet-18's; each stage has one block and doubles them
STRIDES = (1, 2, 2, 2)  # with the stem's 4, 32 in all, as ResNet-18 has it: 64 x 64 pixels give 4 tokens


def register() -> None:
    """Make ``resnet_small`` known to policies that look for their backbone in ``torchvision.models``."""
    setattr(torchvision.models, NAME, resnet_small)


def resnet_small(*, norm_layer: Callable[..., nn.Module] | None = None, weights: None = None, **_: Any) -> ResNet:
    """1.2 million parameters, random; ``layer4`` gives (B, 256, H / 32, W / 32). There are no pretrained weights."""
    net = ResNet(BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)
    norm = net._norm_layer
    net.inplanes = WIDTH
    net.conv1 = nn.Conv2d(3, WIDTH, kernel_size=7, stride=2, padding=3, bias=False)
    net.bn1 = norm(WIDTH)
    for stage, stride in enumerate(STRIDES):
        setattr(net, f"layer{stage + 1}", net._make_layer(BasicBlock, WIDTH * 2**stage, 1, stride=stride))
    net.fc = nn.Linear(WIDTH * 8, 1)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net
