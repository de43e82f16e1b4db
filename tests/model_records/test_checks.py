"""A wrong declaration is named before the first save."""

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from evermuse_outbox.model_records import record_of
from evermuse_outbox.model_records.checks import check_declaration
from evermuse_outbox.model_records.registry import check_declarations
from example_project.support.models import Email, Message
from tests.mails_model import MailRecord


def problems(model=Email, **attributes):
    declaration = type("Declared", (MailRecord,), attributes)()
    declaration.model = model
    return [
        (message.id.rpartition(".")[2], f"{message.msg} {message.hint}")
        for message in check_declaration(declaration)
    ]


def test_the_declarations_of_the_example_project_are_right():
    assert check_declarations() == []
    assert problems() == []


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"event_at": "sent"}, "event_at has 'sent', but support.Email has no field 'sent'. Fields: body"),
        ({"fields": ("subject__x",)}, "goes on after a field"),
        ({"fields": ()}, "fields is empty"),
        ({"event_at": ""}, "event_at is missing. Set event_at, or override get_event_at"),
        ({"product_id": ""}, "product_id is missing"),
        ({"project_id": ""}, "project_id is missing"),
        ({"type": ""}, "type is missing. Use one of email"),
        ({"type": "mail"}, "type is 'mail'"),
        ({"workspace": "emea"}, "the workspace 'emea' is not in the settings"),
        ({"on": ("create", "delete")}, "has no call that deletes a record"),
        ({"on": ("insert",)}, "Use a tuple of 'create' and 'update'"),
        ({"on": "create"}, "Use a tuple of 'create' and 'update'"),
        ({"watch": ("subjekt",)}, "watch has 'subjekt'"),
        ({"vendor_ids": "pk"}, "Use a mapping from the name in _vendor_ids to a field"),
        ({"fields": "subject"}, "A comma is missing: write ('subject',)"),
        ({"watch": "subject"}, "A comma is missing: write ('subject',)"),
        ({"field": ("subject",)}, "Did you mean fields?"),
        ({"event_at": "subject"}, "event_at is 'subject', which is no field with a time"),
        ({"project_id": "customer__name"}, "Override get_project_id(instance)"),
    ],
)
def test_each_mistake_is_named(attributes, words):
    [(code, text)] = problems(**attributes)
    assert code == "E040"
    assert words in text


def test_a_relation_with_many_rows_is_no_field():
    [(code, text)] = problems(Message, event_at="sent_at", vendor_ids={}, fields=("conversation__messages",))
    assert code == "E040"
    assert "has many rows" in text
    assert (
        problems(
            Message, event_at="sent_at", vendor_ids={}, fields=("conversation__subject", "conversation_id")
        )
        == []
    )


def test_an_identity_that_changes_is_a_warning(monkeypatch):
    monkeypatch.setattr(Email._meta.get_field("imported_at"), "auto_now", True)
    [(code, text)] = problems(event_at="imported_at")
    assert code == "W040"
    assert "changes with each save (auto_now)" in text


def test_a_method_needs_no_attribute():
    def get_product_id(self, instance):
        return "p"

    assert problems(product_id="", get_product_id=get_product_id) == []
    assert problems(type="", event_at="", fields=(), record=lambda self, instance: {}) == []


def test_an_abstract_model_is_refused():
    class Abstract(models.Model):
        class Meta:
            abstract = True
            app_label = "support"

    with pytest.raises(ImproperlyConfigured, match="Abstract has no table"):
        record_of(Abstract)


def test_a_row_of_another_model_is_no_vendor_id():
    fields = {"event_at": "sent_at", "fields": ("body",)}
    [(code, text)] = problems(Message, vendor_ids={"conversation": "conversation"}, **fields)
    assert (code, "conversation_id" in text) == ("E040", True)


def test_the_decorator_takes_a_model_and_a_declaration():
    with pytest.raises(TypeError, match=r"takes the class of a model, not 'support\.Email'"):
        record_of("support.Email")
    with pytest.raises(TypeError, match=r"must inherit from ModelRecord\[Email\]"):
        record_of(Email)(type("Declared", (), {}))
