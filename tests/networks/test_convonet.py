"""ConvONet's coordinates and interpolation against loops, and the U-Nets' shapes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pyimplicit import networks
from pyimplicit.networks.unet3d import UNet3D, _beside
from tests.networks.small import build, inputs


def test_first_coordinate_is_the_last_axis_of_a_map() -> None:
    # The maps before the U-Net: a point in one corner fills one known cell of each plane and of the grid.
    point = torch.tensor([[[-0.5, 0.1, 0.5]]])
    where = [int((value / 1.1 + 0.5) * 8) for value in (-0.5, 0.1, 0.5)]  # 0, 4, 7
    planes = build("3plane").encoder.box.cells(point, 8).flatten().tolist()
    assert planes == [where[a] + 8 * where[b] for a, b in ((0, 2), (0, 1), (1, 2))]
    assert build("grid32").encoder.box.cells(point, 8).flatten().tolist() == [where[0] + 8 * where[1] + 64 * where[2]]


@pytest.mark.parametrize("case", ["3plane", "1plane", "grid32"])
def test_features_are_interpolated_at_the_point(case: str) -> None:
    network = build(case, dtype=torch.float64, decoder_blocks=1).eval()
    points, _ = inputs(network, 2, 30)
    points = 1.3 * points  # some outside the padded box
    size, channels = network.config["resolution"], network.config["feature_size"]
    axes = [(0, 1, 2)] if case == "grid32" else [(0, 2), (0, 1), (1, 2)][: 1 if case == "1plane" else 3]
    maps = torch.randn(2, len(axes), channels, *[size] * len(axes[0]), dtype=torch.float64)
    margin = 1e-3 if case == "grid32" else 1e-5
    u = points / (1.1 + margin) + 0.5
    u[u >= 1] = 1 - margin
    u[u < 0] = 0
    features = torch.zeros(2, channels, 30, dtype=torch.float64)
    for k, spanned in enumerate(axes):
        grid = (2 * u - 1)[..., list(spanned)].view(2, 30, *[1] * (len(spanned) - 1), len(spanned))
        sampled = F.grid_sample(maps[:, k], grid, align_corners=True, padding_mode="border")
        features += sampled.view(2, channels, 30)
    decoder = network.decoder
    expected = decoder.fc_p(points) + decoder.fc_c[0](features.transpose(1, 2))
    expected = decoder.fc_out(F.relu(decoder.blocks[0](expected)))[..., 0]
    code = maps[:, 0] if case == "grid32" else maps
    torch.testing.assert_close(network.decode(points, code), expected)


def test_points_outside_the_box_take_its_border() -> None:
    network = build("3plane").eval()
    with torch.no_grad():
        network.decoder.fc_p.weight.zero_()  # leaves the features alone
    _, clouds = inputs(network, 1, 1)
    code = network.encode(clouds)
    far = torch.tensor([[[5.0, 0.1, 0.2], [9.0, 0.1, 0.2], [0.1, -3.0, 0.2], [0.1, -4.0, 0.2]]], requires_grad=True)
    values = network.decode(far, code)
    # The same features go in; matrix products may still sum the rows of a batch in another order.
    torch.testing.assert_close(values[0, 0::2], values[0, 1::2], rtol=1e-5, atol=0)
    values.sum().backward()
    assert far.grad is not None
    assert (far.grad[0, :2, 0] == 0).all()
    assert (far.grad[0, 2:, 1] == 0).all()


def test_planes_share_one_unet_and_1plane_has_the_same_parameters() -> None:
    def sizes(variant: str) -> dict[str, torch.Size]:
        network = networks.create("convonet", variant, resolution=8, unet_depth=2, unet_width=4)
        return {key: value.shape for key, value in network.state_dict().items()}

    assert sizes("3plane") == sizes("1plane")


def test_a_cloud_with_one_point_twice_is_the_cloud_with_it_once() -> None:
    for case in ("3plane", "grid32"):
        network = build(case).eval()
        points, clouds = inputs(network, 1, 10, cloud=6)
        doubled = torch.cat([clouds, clouds], 1)  # every mean and maximum stays
        torch.testing.assert_close(network(points, doubled), network(points, clouds), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 4, 4), (4, 6, 10), (5, 4, 7)])
def test_fine_and_coarse_grids_side_by_side(size: tuple[int, int, int]) -> None:
    """Grids of twice the size have a way of their own; odd ones torch's."""
    torch.manual_seed(0)
    layout = torch.channels_last_3d
    fine = torch.randn(2, 3, *size, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    coarse = torch.randn(2, 5, *(of // 2 for of in size), dtype=torch.float64).to(memory_format=layout).requires_grad_()
    both = _beside(fine, coarse)
    expected = torch.cat([fine, F.interpolate(coarse, size=size, mode="nearest")], 1)
    assert torch.equal(both, expected)
    probe = torch.randn_like(both)
    slopes = (torch.autograd.grad((of * probe).sum(), (fine, coarse)) for of in (both, expected))
    for ours, torchs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, torchs)
    assert torch.autograd.gradgradcheck(_beside, (fine, coarse))


def test_hooks_of_convolutions_and_norms_are_called() -> None:
    unet, seen = UNet3D(16, width=16, levels=2), []
    layers = [layer for layer in unet.modules() if isinstance(layer, nn.Conv3d | nn.GroupNorm)]
    for layer in layers:
        layer.register_forward_hook(lambda own, *_: seen.append(own))
    unet(torch.rand(1, 16, 8, 8, 8))
    assert len(seen) == len(layers)
    assert unet(torch.rand(0, 16, 8, 8, 8)).shape == (0, 16, 8, 8, 8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, which torch.func.jvp uses
def test_transforms_go_through_the_unet() -> None:
    unet, grids = UNet3D(4, width=4, levels=2), torch.rand(2, 4, 8, 8, 8)
    parameters = dict(unet.named_parameters())

    def value(given: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(unet, given, (grids,)).sin().sum()

    unet(grids).sin().sum().backward()
    for name, slope in torch.func.grad(value)(parameters).items():
        torch.testing.assert_close(slope, parameters[name].grad, rtol=1e-3, atol=1e-4)
    assert torch.func.jvp(unet, (grids,), (grids,))[1].shape == grids.shape
    assert torch.func.vmap(lambda own: unet(own[None])[0])(grids).shape == grids.shape
    assert unet.to("meta")(grids.to("meta")).shape == grids.shape
