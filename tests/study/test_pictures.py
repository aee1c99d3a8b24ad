from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from pyimplicit.geometry import Surface
from pyimplicit.study.pictures import SIZE, Camera, crop_together, draw_points, draw_surface
from tests.study.helpers import box, joined, shifted


def ink(picture: np.ndarray) -> np.ndarray:
    return picture.min(axis=2) < 250


@pytest.mark.parametrize("camera", [Camera.at(), Camera.at(0, 0), Camera.at(200, 60)])
def test_the_silhouette_is_the_projection_of_the_corners(camera: Camera) -> None:
    axes = np.stack([camera.right, camera.up, camera.forward])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    mesh = box(0.6)
    corners = mesh.vertices.numpy() @ np.stack([camera.right, camera.up], axis=1)
    pixel = 1.54 / SIZE[1]
    area = ink(draw_surface(Surface(mesh), camera=camera)).sum() * pixel**2
    assert area == pytest.approx(ConvexHull(corners).volume, rel=0.02)


def test_the_picture_is_upright_and_not_mirrored() -> None:
    camera = Camera.at(0, 0)  # from the z axis: x to the right, y up
    rows, columns = np.nonzero(ink(draw_surface(Surface(shifted(box(0.2), 0.3, 0.2)), camera=camera)))
    assert rows.mean() < SIZE[0] / 2 - 20
    assert columns.mean() > SIZE[1] / 2 + 20
    rows, columns = np.nonzero(ink(draw_points(np.array([[0.3, 0.2, 0.0]], np.float32), camera=camera)))
    pixel = 1.54 / SIZE[1]
    assert rows.mean() == pytest.approx(SIZE[0] / 2 - 0.2 / pixel, abs=1)
    assert columns.mean() == pytest.approx(SIZE[1] / 2 + 0.3 / pixel, abs=1)


def test_what_is_far_is_orange_and_what_is_near_is_not() -> None:
    truth, stray = box(0.3), shifted(box(0.15), 0.4, 0.35)
    picture = draw_surface(Surface(joined(truth, stray)), truth=Surface(truth)).astype(int)
    orange = picture[..., 0] - picture[..., 2] > 60
    alone = ink(draw_surface(Surface(stray)))
    assert orange.sum() == pytest.approx(alone.sum(), rel=0.05)
    assert not orange[~alone].any()


def test_the_nearer_dot_hides_the_other() -> None:
    camera = Camera.at()
    points = np.stack([0.3 * camera.forward, -0.3 * camera.forward]).astype(np.float32)  # behind, in front
    colours = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for order in ([0, 1], [1, 0]):
        picture = draw_points(points[order], colours[order], radius=4, camera=camera)
        middle = picture[SIZE[0] // 2, SIZE[1] // 2]
        assert middle[2] > middle[0]


def test_pictures_are_cropped_alike() -> None:
    pictures = [draw_surface(Surface(box(0.2))), draw_surface(Surface(shifted(box(0.2), 0.3)))]
    cropped = crop_together(pictures, margin=0)
    assert cropped[0].shape == cropped[1].shape
    assert cropped[0].size < pictures[0].size
    assert [ink(one).sum() for one in cropped] == [ink(one).sum() for one in pictures]
    both = ink(cropped[0]) | ink(cropped[1])
    assert both[0].any()
    assert both[-1].any()
    assert both[:, 0].any()
    assert both[:, -1].any()
    blank = [np.full((*SIZE, 3), 255, np.uint8)]
    assert crop_together(blank)[0].shape == blank[0].shape
