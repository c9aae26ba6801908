"""Names in messages, when a stranger chose them."""

from positronic.errors import MAX_NAME, did_you_mean, listing


def test_the_nearest_name_is_offered():
    """And none when nothing is near."""
    assert did_you_mean("codek", ["codec", "vendor"]) == " Did you mean 'codec'?"
    assert did_you_mean("xyz", ["codec", "vendor"]) == ""


def test_the_search_for_the_nearest_name_is_bounded():
    """Neither many nor long names make it long."""
    compared = []

    class Name(str):
        def __len__(self):
            compared.append(self)
            return super().__len__()

    did_you_mean("robot_state.ee_pose", (Name(f"robot_state.ee_pos{i}") for i in range(100_000)))
    assert len(set(compared)) < 1000
    assert did_you_mean("x" * 1_000_000, ["x"]) == ""
    assert did_you_mean("grip", ["g" * 1_000_000]) == ""


def test_a_listing_is_short():
    """Few names, each cut."""
    assert listing(["b", "a"]) == "a, b"
    assert listing([]) == "none"
    assert len(listing(["x" * 10_000] * 10_000)) < 13 * (MAX_NAME + 20)
