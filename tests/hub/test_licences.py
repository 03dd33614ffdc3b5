"""The hub takes the licences that the toolkit writes; the halves share no code, so their lists are compared."""

from lmcommons.hub.repos.licenses import LICENSES
from lmcommons.publishing.cards import HUB_LICENCES


def test_every_licence_of_a_published_card_is_known_to_the_hub():
    assert {"other", *HUB_LICENCES} <= LICENSES
