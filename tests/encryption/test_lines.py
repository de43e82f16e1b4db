"""The stored form of an encrypted line: each round trip gives the line, and every change is noticed."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermuse_outbox.encryption import (
    Altered,
    DataKey,
    MasterKeyMissing,
    key_id_of,
    make_data_key,
    present_fingerprints,
    rewrap,
    unwrap_data_key,
)
from tests.keys import KEY, OTHER_KEY

IDENTITY, OTHER_IDENTITY = "0" * 32, "1" * 32
SCOPE = "default\n"


@pytest.fixture
def key(outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    return DataKey(17, unwrap_data_key(make_data_key(SCOPE), SCOPE))


def test_each_line_comes_back(key):
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def check(line):
        stored = key.encrypt(line, IDENTITY)
        assert key.decrypt(stored, IDENTITY) == line
        assert stored.startswith("e1:17:")
        assert stored.isascii()
        assert stored.isprintable()
        assert key_id_of(stored) == 17
        assert stored != key.encrypt(line, IDENTITY)

    check()


def test_each_changed_character_is_noticed(key):
    stored = key.encrypt('{"a": 1}', IDENTITY)
    for position in range(len("e1:17:"), len(stored)):
        for character in "A0+=:\n":
            if stored[position] != character:
                with pytest.raises(Altered):
                    key.decrypt(stored[:position] + character + stored[position + 1 :], IDENTITY)


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_stored_form_that_was_cut_off_is_noticed(key, cut):
    with pytest.raises(Altered):
        key.decrypt(key.encrypt("{}", IDENTITY)[:-cut], IDENTITY)


def test_a_line_belongs_to_its_record_and_its_key(key):
    stored = key.encrypt("{}", IDENTITY)
    with pytest.raises(Altered):
        key.decrypt(stored, OTHER_IDENTITY)
    with pytest.raises(Altered):
        DataKey(17, unwrap_data_key(make_data_key(SCOPE), SCOPE)).decrypt(stored, IDENTITY)


@pytest.mark.parametrize(
    "text", ["{}", "", "e1:", "e1:x:", "e1::", "e1:-1:", f"e1:{'9' * 30}:", "e1:\uff11:"]
)
def test_text_that_is_no_stored_form_has_no_key(text):
    assert key_id_of(text) is None


def test_a_data_key_belongs_to_its_scope(outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    stored = make_data_key("default\n")
    with pytest.raises(Altered):
        unwrap_data_key(stored, "other\n")


def test_the_first_master_key_wraps_and_all_unwrap(outbox_settings):
    outbox_settings(ENCRYPTION_KEYS=[KEY])
    stored = make_data_key(SCOPE)
    line = DataKey(1, unwrap_data_key(stored, SCOPE)).encrypt("{}", IDENTITY)
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY, KEY])
    first = present_fingerprints()[0]
    changed = rewrap(stored, SCOPE, first)
    assert changed.master != stored.master
    assert rewrap(changed, SCOPE, first) is changed
    outbox_settings(ENCRYPTION_KEYS=[OTHER_KEY])
    assert DataKey(1, unwrap_data_key(changed, SCOPE)).decrypt(line, IDENTITY) == "{}"
    with pytest.raises(MasterKeyMissing) as caught:
        unwrap_data_key(stored, SCOPE)
    assert stored.master in str(caught.value)


def test_no_key_is_shown(key):
    shown = repr(key) + repr(copy.copy(key)) + repr(key._cipher)
    assert KEY[:8] not in shown
    assert "01010101" not in shown


def test_without_keys_the_library_is_not_imported():
    script = (
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'\n"
        "import django; django.setup()\n"
        "from django.db import connections\n"
        "from evermuse_outbox.models import OutboxRecord\n"
        "field = OutboxRecord._meta.get_field('payload')\n"
        "assert field.get_db_converters(connections['default']) == []\n"
        "assert str(OutboxRecord.rows.values('payload').query).count('identity') == 0\n"
        "assert 'cryptography.hazmat.primitives.ciphers.aead' not in sys.modules\n"  # PyMySQL imports other parts
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
