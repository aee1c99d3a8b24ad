from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimplicit.errors import ConfigError, DataError
from pyimplicit.training.examples import (
    Batch,
    batch_shapes,
    build_training_set,
    check_device,
    digest_shapes,
    draw_batch,
)
from pyimplicit.training.seeds import derive_seed
from tests.training.shapes import sphere, tiny_config

SHAPES = [sphere(0.2), sphere(0.3), sphere(0.4)]
# The polyhedron with 1,280 faces lies inside the ball, by less than this share of its radius.
FACETING = 0.006


def same(one: Batch, other: Batch) -> bool:
    return all(torch.equal(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(Batch))


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 9), batch_size=st.integers(1, 20), seed=st.integers(0, 3))
def test_batches_cut_a_sequence_of_permutations(count: int, batch_size: int, seed: int) -> None:
    batches = [batch_shapes(count, batch_size, step, seed) for step in range(2 * count)]
    assert all(len(batch) == batch_size for batch in batches)
    sequence = torch.cat(batches)
    for epoch in sequence.split(count):
        assert epoch.unique().tolist() == list(range(count))


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(batch_shapes(50, 50, step, seed).tolist()) for step in range(2) for seed in range(2)]
    assert len(set(orders)) == 4


@pytest.mark.parametrize("strategy", ["uniform", "balanced_surface", "linear"])
@pytest.mark.parametrize("pool_size", [512, 0])
def test_points_carry_their_exact_distances(strategy: str, pool_size: int) -> None:
    config = tiny_config("onet", strategy=strategy, pool_size=pool_size)
    data = build_training_set(config, SHAPES)
    batch = draw_batch(data, config, step=3)
    assert batch.points.shape == (2, 64, 3)
    assert batch.clouds.shape == (2, 50, 3)
    radius = torch.tensor([0.2, 0.3, 0.4])[batch.shapes][:, None]
    assert torch.allclose(batch.clouds.norm(dim=2), radius.expand(2, 50), atol=0, rtol=FACETING)
    error = batch.signed_distance - (batch.points.norm(dim=2) - radius)
    assert error.abs().max() <= FACETING * 0.4


@pytest.mark.parametrize("pool_size", [512, 0])
def test_a_batch_is_a_function_of_seed_and_step(pool_size: int) -> None:
    config = tiny_config("onet", pool_size=pool_size)
    data = build_training_set(config, SHAPES)
    draw_batch(data, config, 0)
    torch.manual_seed(17)
    again = build_training_set(config, SHAPES)
    assert same(draw_batch(data, config, 5), draw_batch(again, config, 5))
    assert not same(draw_batch(data, config, 5), draw_batch(data, config, 6))
    other = dataclasses.replace(config, seed=1)
    assert not same(draw_batch(data, config, 5), draw_batch(build_training_set(other, SHAPES), other, 5))


def test_the_pools_of_a_shape_do_not_depend_on_the_others() -> None:
    config = tiny_config("onet")
    all_shapes = build_training_set(config, SHAPES)
    alone = build_training_set(config, SHAPES[2:])
    assert torch.equal(all_shapes.points[2], alone.points[0])
    assert torch.equal(all_shapes.clouds[2], alone.clouds[0])


def test_clouds_may_be_noisy_or_one_a_shape() -> None:
    config = tiny_config("onet", cloud_size=100, cloud_pool=100)
    data = build_training_set(config, SHAPES)
    plain = draw_batch(data, config, 3)
    noisy = draw_batch(data, dataclasses.replace(config, cloud_noise=0.01), 3)
    assert torch.equal(plain.points, noisy.points)
    assert (noisy.clouds - plain.clouds).std().item() == pytest.approx(0.01, rel=0.1)
    kept = dataclasses.replace(config, fresh_clouds=False, cloud_size=60)
    for step in (0, 5):
        batch = draw_batch(data, kept, step)
        assert torch.equal(batch.clouds, data.clouds[batch.shapes, :60])


def test_auto_decoders_need_no_clouds() -> None:
    config = tiny_config("deepsdf")
    data = build_training_set(config, SHAPES, clouds=False)
    assert data.clouds.shape == (3, 0, 3)
    assert draw_batch(data, config, 0).clouds.shape == (2, 0, 3)


def test_names_must_be_distinct_and_there_must_be_a_shape() -> None:
    config = tiny_config("onet")
    with pytest.raises(DataError, match="'ball' twice"):
        build_training_set(config, [sphere(0.2, "ball"), sphere(0.3, "ball")])
    with pytest.raises(DataError, match="got none"):
        build_training_set(config, [])


def test_the_digest_of_the_shapes_sees_names_order_and_meshes() -> None:
    digests = [
        digest_shapes(SHAPES),
        digest_shapes(SHAPES[::-1]),
        digest_shapes(SHAPES[:2]),
        digest_shapes([sphere(0.2, "other"), *SHAPES[1:]]),
        digest_shapes([sphere(0.21, SHAPES[0].name), *SHAPES[1:]]),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_shapes([sphere(0.2), sphere(0.3), sphere(0.4)]) == digests[0]


def test_a_device_that_is_not_there_is_refused() -> None:
    config = tiny_config("onet", device=f"cuda:{torch.cuda.device_count()}")
    with pytest.raises(ConfigError, match="device: expected a device of this machine"):
        check_device(config)


def test_derived_seeds_are_fixed_for_all_time() -> None:
    # Stored runs depend on them: a run begun by one version must go on the same under the next.
    assert derive_seed(0, "batch", 7) == 2_604_783_159_359_761_241
    assert derive_seed(0, "a", 1) != derive_seed(0, "a1")
    assert derive_seed(0, "a", "1") != derive_seed(0, "a", 1)
    seeds = {derive_seed(seed, name, step) for seed in range(5) for name in "abc" for step in range(100)}
    assert len(seeds) == 1500
    assert all(0 <= seed < 2**63 for seed in seeds)
