"""An ``InvalidRecord`` inside of a form, a model or a serializer is an error of it, and never a crash."""

from __future__ import annotations

import copy
import pickle

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from rest_framework import serializers

from evermuse_outbox.evermuse import FieldError, InvalidRecord
from evermuse_outbox.evermuse.records import validate
from tests.evermuse.records.samples import sample

WORDS = "100% %(sure)s <b>"


def refuse(*_):
    """Validate a record with two errors; one is about an item of a list."""
    validate(
        sample(_nature=WORDS, _participants=[{"id": "a", "role": "agent"}]),
        contract="openapi",
    )


def caught():
    with pytest.raises(InvalidRecord) as info:
        refuse()
    return info.value


MESSAGES = caught().messages


def test_each_message_has_its_path():
    assert len(MESSAGES) == 2
    assert MESSAGES[0].startswith("_nature: ")
    assert WORDS in MESSAGES[0]
    assert MESSAGES[1].startswith("_participants[0].role: ")


class Named(forms.Form):
    name = forms.CharField()


class ByForm(Named):
    def clean(self):
        refuse()


class ByField(Named):
    clean_name = refuse


class ByValidator(forms.Form):
    name = forms.CharField(validators=[refuse])


class ByAddError(Named):
    def clean(self):
        self.add_error(None, caught())
        self.add_error("name", caught())


@pytest.mark.parametrize(
    ("form", "places"),
    [
        (ByForm, {NON_FIELD_ERRORS}),
        (ByField, {"name"}),
        (ByValidator, {"name"}),
        (ByAddError, {NON_FIELD_ERRORS, "name"}),
    ],
)
def test_a_form(form, places):
    bound = form({"name": "x"})
    assert not bound.is_valid()
    assert set(bound.errors) == places
    for place in places:
        assert bound.errors[place] == MESSAGES
        assert bound.has_error(place, code="invalid_record")
    assert "&lt;b&gt;" in str(bound)
    assert "<b>" not in str(bound)
    assert bound.errors.get_json_data()


def test_a_formset():
    class Base(forms.BaseFormSet):
        clean = refuse

    formset = forms.formset_factory(Named, formset=Base)
    bound = formset({"form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "0", "form-0-name": "x"})
    assert not bound.is_valid()
    assert bound.non_form_errors() == MESSAGES


def test_a_form_of_a_model_and_the_admin(monkeypatch):
    monkeypatch.setattr(Group, "clean", refuse)
    monkeypatch.setattr(Group, "validate_unique", lambda *args, **kwargs: None)
    model_admin = admin.ModelAdmin(Group, admin.site)
    for form in (
        forms.modelform_factory(Group, fields=["name"]),
        forms.modelform_factory(Group, form=model_admin.form, fields=["name"]),
    ):
        bound = form({"name": "x"})
        assert not bound.is_valid()
        assert bound.errors == {NON_FIELD_ERRORS: MESSAGES}
    with pytest.raises(ValidationError) as info:
        Group(name="x").full_clean()
    assert info.value.message_dict == {NON_FIELD_ERRORS: MESSAGES}


class BySerializer(serializers.Serializer):
    name = serializers.CharField()
    validate = refuse


class BySerializerField(serializers.Serializer):
    name = serializers.CharField()
    validate_name = refuse


@pytest.mark.parametrize(
    ("serializer", "place"), [(BySerializer, "non_field_errors"), (BySerializerField, "name")]
)
def test_a_serializer_of_django_rest_framework(serializer, place):
    bound = serializer(data={"name": "x"})
    assert not bound.is_valid()
    assert bound.errors == {place: MESSAGES}
    assert {error.code for error in bound.errors[place]} == {"invalid_record"}
    many = serializer(data=[{"name": "x"}, {}], many=True)
    assert not many.is_valid()
    with pytest.raises(serializers.ValidationError):
        serializer(data={"name": "x"}).is_valid(raise_exception=True)


def test_the_error_itself_has_no_dict_of_fields():
    error = caught()
    assert not hasattr(error, "error_dict")
    assert list(error) == MESSAGES
    assert list(error.message_dict) == ["_nature", "_participants[0].role"]
    assert ValidationError([error, "other"]).messages == [*MESSAGES, "other"]
    assert ValidationError({"name": error}).message_dict == {"name": MESSAGES}


def test_an_error_about_the_record_and_a_cut_list():
    error = InvalidRecord([FieldError("", "Not a record.", "3", "a mapping")], is_cut=True)
    assert list(error.message_dict) == [NON_FIELD_ERRORS]
    assert len(error.messages) == len(error.message_dict[NON_FIELD_ERRORS]) == 2


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_a_copy_is_equal(duplicate):
    error = caught()
    again = duplicate(error)
    assert again == error
    assert hash(again) == hash(error)
    assert (again.errors, again.is_cut) == (error.errors, error.is_cut)
    assert (again.messages, again.message_dict) == (error.messages, error.message_dict)
    assert (str(again), repr(again)) == (str(error), repr(error))
