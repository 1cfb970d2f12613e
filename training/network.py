"""DamoFD in PyTorch, under the tensor names of the published checkpoints.

`DamoFD("2.5g-kps")` holds the same parameters as the published network, so a
published checkpoint loads with `load_checkpoint` and fine-tunes.  A variant is a
row of `VARIANTS`: the backbone in the authors' own notation, the neck's channels
and the head's tower.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

STRIDES = (8, 16, 32)
ANCHORS_PER_CELL = 2
MEAN, SCALE = 127.5, 1.0 / 128.0     # network input = (grey level - MEAN) * SCALE, channels RGB

# name: (super-blocks (kind, in, out, stride, bottleneck, repeats), neck channels,
#        (tower convolutions, tower channels, groups, depthwise separable))
VARIANTS = {
    "0.5g": ([("ConvK3", 3, 32, 2, 0, 1), ("IDWE1K3", 32, 32, 2, 8, 1), ("IDWE1K7", 32, 64, 2, 40, 1),
              ("IDWE1K7", 64, 120, 2, 40, 2), ("IDWE1K5", 120, 160, 2, 120, 1)],
             16, (2, 64, 16, True)),
    "2.5g": ([("ConvK3", 3, 24, 2, 0, 2), ("K3K3", 24, 32, 2, 24, 4), ("K3K3", 32, 56, 2, 16, 4),
              ("K5K5", 56, 88, 2, 8, 5), ("K1K5K1", 88, 128, 2, 8, 4)],
             24, (2, 64, 16, False)),
    "10g": ([("ConvK3", 3, 56, 2, 0, 2), ("K1K3K1", 56, 80, 2, 40, 5), ("K1K5K1", 80, 112, 2, 32, 5),
             ("K1K3K1", 112, 168, 2, 16, 4), ("K7K7", 168, 256, 2, 8, 1)],
            56, (3, 80, 16, False)),
    "34g": ([("ConvK3", 3, 56, 2, 0, 2), ("K1K3K1", 56, 224, 2, 80, 5), ("K1K3K1", 224, 488, 2, 40, 6),
             ("K1K3K1", 488, 624, 2, 72, 4), ("K1K7K1", 624, 816, 2, 24, 3)],
            128, (2, 256, 32, False)),
}


class Named(nn.Module):
    """Holds one layer as `netblock`: the published names say so."""

    def __init__(self, layer):
        super().__init__()
        self.netblock = layer

    def forward(self, x):
        return self.netblock(x)


def batch_norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class Depthwise(nn.Conv2d):
    """A depthwise convolution, in float32 on CPUs, where PyTorch takes several times as long for its gradients in bfloat16."""

    def forward(self, x):
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


def conv(c_in, c_out, k, stride=1, groups=1, bias=False):
    kind = Depthwise if groups == c_in > 1 else nn.Conv2d
    return kind(c_in, c_out, k, stride, k // 2, groups=groups, bias=bias)


class Chain(nn.Module):
    """Layers in a row, as `module_list`."""

    def __init__(self, layers):
        super().__init__()
        self.module_list = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.module_list:
            x = layer(x)
        return x


class Residual(Chain):
    """Convolution, BN, ReLU, ..., convolution, BN; plus the input, or its projection."""

    def __init__(self, c_in, convs, stride, project):
        """convs: rows (out channels, kernel, stride, groups)."""
        layers, c = [], c_in
        for c_out, k, s, groups in convs:
            layers += [Named(conv(c, c_out, k, s, groups)), Named(batch_norm(c_out)), nn.ReLU()]
            c = c_out
        super().__init__(layers[:-1])
        self.proj = nn.Sequential(conv(c_in, c, 1, stride, bias=True), batch_norm(c)) if project else None

    def forward(self, x):
        return super().forward(x) + (x if self.proj is None else self.proj(x))


def super_block(kind, c_in, c_out, stride, bottleneck, repeats):
    """One super-block; the stride is in its first convolution that has a kernel above 1x1, or its only ones."""
    layers, c = [], c_in
    if kind == "ConvK3":
        for i in range(repeats):
            layers += [Named(conv(c, c_out, 3, stride if i == 0 else 1)), Named(batch_norm(c_out)), nn.ReLU()]
            c = c_out
        return Chain(layers)

    def add(convs, s, first):
        nonlocal c
        c_end = convs[-1][0]
        layers.extend([Residual(c, convs, s, first or s != 1 or c != c_end), nn.ReLU()])
        c = c_end

    k = int(kind.rstrip("K1")[-1]) if kind.startswith("K1") else int(kind[-1])
    for i in range(repeats):
        s = stride if i == 0 else 1
        if kind.startswith("IDWE1"):
            add([(bottleneck, 1, 1, 1), (bottleneck, k, s, bottleneck), (bottleneck, 1, 1, 1)], s, i == 0)
            add([(c_out, 1, 1, 1), (c_out, k, 1, c_out), (c_out, 1, 1, 1)], 1, False)
        elif kind.startswith("K1"):
            for j in range(2):
                s = stride if i == j == 0 else 1
                add([(bottleneck, 1, 1, 1), (bottleneck, k, s, 1), (c_out, 1, 1, 1)], s, i == j == 0)
        else:
            add([(bottleneck, k, s, 1), (c_out, k, 1, 1)], s, i == 0)
    return Chain(layers)


class Backbone(Chain):
    def __init__(self, rows):
        super().__init__([super_block(*row) for row in rows])

    def forward(self, x):
        """x [n, 3, h, w] -> four maps at strides 4, 8, 16, 32."""
        maps = []
        for block in self.module_list:
            x = block(x)
            maps.append(x)
        return maps[-4:]


class Conv(nn.Module):
    """A convolution with a bias, as `conv`."""

    def __init__(self, c_in, c_out, k, stride=1):
        super().__init__()
        self.conv = conv(c_in, c_out, k, stride, bias=True)

    def forward(self, x):
        return self.conv(x)


class Neck(nn.Module):
    """PAFPN without norms and activations."""

    def __init__(self, c_in, c):
        super().__init__()
        self.lateral_convs = nn.ModuleList([Conv(ci, c, 1) for ci in c_in])
        self.fpn_convs = nn.ModuleList([Conv(c, c, 3) for _ in c_in])
        self.downsample_convs = nn.ModuleList([Conv(c, c, 3, 2) for _ in c_in[1:]])
        self.pafpn_convs = nn.ModuleList([Conv(c, c, 3) for _ in c_in[1:]])

    def forward(self, maps):
        x = [lateral(m) for lateral, m in zip(self.lateral_convs, maps)]
        for i in range(len(x) - 1, 0, -1):
            x[i - 1] = x[i - 1] + F.interpolate(x[i], size=x[i - 1].shape[2:], mode="nearest")
        x = [fpn(y) for fpn, y in zip(self.fpn_convs, x)]
        for i in range(len(x) - 1):
            x[i + 1] = x[i + 1] + self.downsample_convs[i](x[i])
        return x[:1] + [pafpn(y) for pafpn, y in zip(self.pafpn_convs, x[1:])]


class ConvGN(nn.Module):
    """Convolution, GroupNorm, ReLU."""

    def __init__(self, c_in, c_out, k, norm_groups, conv_groups=1):
        super().__init__()
        self.conv = conv(c_in, c_out, k, groups=conv_groups)
        self.gn = nn.GroupNorm(norm_groups, c_out, eps=1e-5)

    def forward(self, x):
        return F.relu(self.gn(self.conv(x)))


class SeparableGN(nn.Module):
    """Depthwise 3x3 and 1x1, each with GroupNorm and ReLU."""

    def __init__(self, c_in, c_out, norm_groups):
        super().__init__()
        self.depthwise_conv = ConvGN(c_in, c_in, 3, norm_groups, c_in)
        self.pointwise_conv = ConvGN(c_in, c_out, 1, norm_groups)

    def forward(self, x):
        return self.pointwise_conv(self.depthwise_conv(x))


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


class Head(nn.Module):
    """The tower and the predictors, shared by the three levels."""

    def __init__(self, c_in, tower, keypoints):
        super().__init__()
        depth, c, groups, separable = tower
        layers = [SeparableGN(c_in if i == 0 else c, c, groups) if separable
                  else ConvGN(c_in if i == 0 else c, c, 3, groups) for i in range(depth)]
        self.cls_stride_convs = nn.ModuleList([nn.Sequential(*layers)])
        self.stride_cls = nn.ModuleList([conv(c, ANCHORS_PER_CELL, 3, bias=True)])
        self.stride_reg = nn.ModuleList([conv(c, ANCHORS_PER_CELL * 4, 3, bias=True)])
        if keypoints:
            self.stride_kps = nn.ModuleList([conv(c, ANCHORS_PER_CELL * 10, 3, bias=True)])
        self.keypoints = keypoints
        self.scales = nn.ModuleList([Scale() for _ in STRIDES])

    def forward(self, maps):
        """Three maps -> three (logits [n, 2, h, w], distances [n, 8, h, w], keypoints [n, 20, h, w] or None)."""
        out = []
        for level, x in enumerate(maps):
            x = self.cls_stride_convs[0](x)
            out.append((self.stride_cls[0](x), self.stride_reg[0](x) * self.scales[level].scale,
                        self.stride_kps[0](x) if self.keypoints else None))
        return out


class DamoFD(nn.Module):
    def __init__(self, variant="2.5g-kps"):
        super().__init__()
        name, _, suffix = variant.partition("-")
        if name not in VARIANTS or suffix not in ("", "kps"):
            raise ValueError("unknown variant '%s': one of %s, with or without -kps" % (variant, ", ".join(VARIANTS)))
        rows, c_neck, tower = VARIANTS[name]
        self.variant = variant
        self.backbone = Backbone(rows)
        self.neck = Neck([row[2] for row in rows[-3:]], c_neck)
        self.bbox_head = Head(c_neck, tower, suffix == "kps")
        self.initialise()

    def initialise(self):
        """He's for the backbone, small normal for the head; a prior of one face in a hundred cells."""
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        for block in self.backbone.modules():   # residual branches start at zero: trains faster from scratch
            if isinstance(block, Residual):
                nn.init.constant_(block.module_list[-1].netblock.weight, 0.2)
        for m in self.neck.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.xavier_uniform_(m.weight)
        head = self.bbox_head
        nn.init.normal_(head.stride_cls[0].weight, std=0.01)
        nn.init.constant_(head.stride_cls[0].bias, -math.log(99.0))
        nn.init.normal_(head.stride_reg[0].weight, std=0.02)
        nn.init.constant_(head.stride_reg[0].bias, 2.0)
        if head.keypoints:
            nn.init.normal_(head.stride_kps[0].weight, std=0.02)

    def forward(self, x):
        """x [n, 3, h, w], normalised; h and w multiples of 32.  Returns, with a = 2 (h w) (1/8^2 + 1/16^2 + 1/32^2) priors,
        level by level, row by row, the two anchors of a cell alternating:
        logits [n, a], distances left, top, right, bottom [n, a, 4] in strides, keypoint offsets [n, a, 5, 2] in strides or None."""
        outputs = self.bbox_head(self.neck(self.backbone(x)[1:]))

        def join(index, *shape):
            parts = [o[index].permute(0, 2, 3, 1).reshape(x.shape[0], -1, *shape) for o in outputs]
            return torch.cat(parts, 1).float()

        return join(0), join(1, 4), join(2, 5, 2) if self.bbox_head.keypoints else None


def priors(height, width):
    """Prior points and strides of a height x width input: [a, 2] x, y in pixels and [a] in pixels, as the network orders them."""
    points, strides = [], []
    for s in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // s), torch.arange(width // s), indexing="ij")
        p = torch.stack([x, y], -1).reshape(-1, 2).repeat_interleave(ANCHORS_PER_CELL, 0)
        points.append(p.float() * s)
        strides.append(torch.full((p.shape[0],), float(s)))
    return torch.cat(points), torch.cat(strides)


def decode(points, strides, distances, keypoints=None):
    """Distances [..., a, 4] and offsets [..., a, 5, 2] in strides -> boxes x1, y1, x2, y2 and keypoints x, y in pixels."""
    d = distances * strides[:, None]
    boxes = torch.cat([points - d[..., :2], points + d[..., 2:]], -1)
    if keypoints is None:
        return boxes, None
    return boxes, points[:, None] + keypoints * strides[:, None, None]


def load_checkpoint(path, device="cpu"):
    """A checkpoint's tensors by published name: from this project's training or from a published file."""
    file = torch.load(path, map_location=device, weights_only=True)
    state = file.get("state_dict", file)
    out = {}
    for name, tensor in state.items():
        for prefix in ("detector.module.", "detector.", "module."):
            if name.startswith(prefix):
                name = name[len(prefix):]
                break
        out[name] = tensor
    return out
