import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from positronic import geometry
from positronic.errors import PositronicError

floats = st.floats(-1, 1, width=64)
quats = hnp.arrays(np.float64, (5, 4), elements=floats).filter(lambda q: np.all(np.linalg.norm(q, axis=1) > 0.1))


def independent_matrix(quat_wxyz):
    """Rotate the three axes by q v q*, written from the definition of quaternion multiplication."""
    w, v = quat_wxyz[0], quat_wxyz[1:]
    rotate = lambda x: x + 2 * w * np.cross(v, x) + 2 * np.cross(v, np.cross(v, x))  # noqa: E731
    return np.stack([rotate(axis) for axis in np.eye(3)], axis=1)


@given(quats)
def test_matrix_follows_the_definition_of_a_scalar_first_quaternion(quats):
    """quat_to_matrix agrees with q v q* on every axis."""
    unit = geometry.quat_normalise(quats)
    for quat, matrix in zip(unit, geometry.quat_to_matrix(quats), strict=True):
        np.testing.assert_allclose(matrix, independent_matrix(quat), atol=1e-12)


@given(quats, st.sampled_from(sorted(geometry.ROTATION_DIMS)))
def test_every_rotation_layout_comes_back(quats, rotation):
    """quat -> layout -> quat is the same rotation."""
    back = geometry.quat_from(rotation, geometry.quat_to(rotation, quats))
    same = np.abs(np.sum(back * geometry.quat_normalise(quats), axis=-1))
    np.testing.assert_allclose(same, 1.0, atol=1e-9)


def test_rot6d_is_two_rows_not_two_columns():
    """A quarter turn about z: the rows are (0 -1 0) and (1 0 0); columns would start with (0 1 0)."""
    quarter_turn_z = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]
    np.testing.assert_allclose(geometry.quat_to("rot6d_rows", quarter_turn_z), [0, -1, 0, 1, 0, 0], atol=1e-12)


@given(quats, st.sampled_from(sorted(geometry.ROTATION_DIMS)))
def test_a_batch_of_one_gives_the_same_bits(quats, rotation):
    """Encoding five rotations at once equals encoding them one by one, bit for bit."""
    together = geometry.quat_to(rotation, quats)
    alone = np.concatenate([geometry.quat_to(rotation, quat[None]) for quat in quats])
    assert together.tobytes() == alone.tobytes()


def test_rot6d_decoding_orthonormalises_a_policys_output():
    """A noisy rot6d decodes to a proper rotation: orthonormal, determinant 1."""
    rng = np.random.default_rng(0)
    matrix = geometry.rot6d_to_matrix(rng.normal(size=(50, 6)))
    np.testing.assert_allclose(matrix @ np.swapaxes(matrix, -1, -2), np.broadcast_to(np.eye(3), (50, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0)


@pytest.mark.parametrize("bad", [np.zeros(4), np.full(4, np.nan)])
def test_a_quaternion_without_direction_is_refused(bad):
    """Zero and NaN quaternions raise instead of becoming a pose."""
    with pytest.raises(PositronicError, match="no direction"):
        geometry.quat_to_matrix(bad)


def test_collinear_rot6d_rows_are_refused():
    """Two parallel rows do not span a rotation."""
    with pytest.raises(PositronicError, match="Second row"):
        geometry.rot6d_to_matrix([1, 0, 0, 2, 0, 0])


def test_q_and_minus_q_become_one_row_of_numbers():
    """On the side of the reference, also at a right angle to it; what is there already keeps its bits."""
    reference = (0.0, 1.0, 0.0, 0.0)
    random = geometry.quat_normalise(np.random.default_rng(0).normal(size=(50, 4)))
    at_right_angles = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 0, 0.6, -0.8]])
    quats = np.concatenate([random, at_right_angles])
    one, two = geometry.quat_toward(quats, reference), geometry.quat_toward(-quats, reference)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(geometry.quat_toward(one, reference), one)
    assert (one @ np.array(reference) >= 0).all()


def test_a_rotation_vector_near_pi_takes_the_turn_that_the_reference_takes():
    """Angles beyond pi go on along the axis instead of jumping to its other end, and are the same rotation."""
    angles = np.linspace(2.5, 3.8, 30)
    quats = np.stack([np.cos(angles / 2), 0 * angles, 0 * angles, np.sin(angles / 2)], axis=-1)
    vectors = geometry.quat_to_rotvec(quats)
    assert np.abs(np.diff(vectors[:, 2])).max() > 6
    turned = geometry.rotvec_toward(vectors, (0.0, 0.0, 3.1))
    np.testing.assert_allclose(turned[:, 2], angles, atol=1e-12)
    same = np.abs((geometry.rotvec_to_quat(turned) * quats).sum(axis=1))
    np.testing.assert_allclose(same, 1.0, atol=1e-12)


@given(quats)
def test_a_rotation_vector_is_the_nearer_of_the_two(quats):
    """Against the definition, for any reference within pi."""
    reference = np.array([1.0, -2.0, 0.5])
    vectors = geometry.quat_to_rotvec(quats)
    turned = geometry.rotvec_toward(vectors, reference.tolist())
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    other = vectors * (length - 2 * np.pi) / np.maximum(length, 1e-12)
    nearest = np.minimum(np.linalg.norm(vectors - reference, axis=1), np.linalg.norm(other - reference, axis=1))
    near = np.linalg.norm(turned - reference, axis=1)
    assert (near <= np.where(length[:, 0] > 1e-6, nearest, near) + 1e-9).all()
