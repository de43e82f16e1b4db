"""Forms of the support desk."""

from __future__ import annotations

from django import forms

BODY_LENGTH = 20_000  # characters that a message may have


class MessageForm(forms.Form):
    """A message in an existing conversation, written by the customer or by the desk."""

    body = forms.CharField(label="Message", max_length=BODY_LENGTH, widget=forms.Textarea(attrs={"rows": 4}))
    from_desk = forms.BooleanField(label="Answer as the support desk", required=False)


class ConversationForm(forms.Form):
    """A new conversation with its first message."""

    customer_name = forms.CharField(label="Your name", max_length=200)
    customer_email = forms.EmailField(label="Your e-mail address", max_length=254)
    subject = forms.CharField(max_length=200)
    body = forms.CharField(label="Message", max_length=BODY_LENGTH, widget=forms.Textarea(attrs={"rows": 4}))
