"""Pages of the support desk. They are rendered on the server and need no JavaScript."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from . import badges, desk
from .forms import ConversationForm, MessageForm
from .models import Conversation, Email, Message

PAGE_LENGTH = 50  # conversations per page


@require_http_methods(["GET", "HEAD", "POST"])
def conversation_list(request: HttpRequest) -> HttpResponse:
    """Show all conversations, newest first, with a form that opens a new one."""
    form = ConversationForm(request.POST or None)
    if form.is_valid() and (opened := _open(form)):
        messages.success(request, "Your conversation is open.")
        return redirect(opened)
    return render(request, "support/conversation_list.html", _list_context(request, form))


@require_http_methods(["GET", "HEAD", "POST"])
def conversation_detail(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a conversation, with a form that adds a message."""
    conversation = get_object_or_404(Conversation, pk=pk)
    form = MessageForm(request.POST or None)
    if form.is_valid() and _write(conversation, form):
        messages.success(request, "Your message is saved.")
        return redirect(conversation)
    entries = badges.add_outbox_states(conversation.messages.all())
    context = {"conversation": conversation, "form": form, "entries": entries}
    return render(request, "support/conversation_detail.html", context)


@require_safe
def health(_request: HttpRequest) -> HttpResponse:
    """Answer with status 200 and the text ``ok``."""
    return HttpResponse("ok", content_type="text/plain")


def _list_context(request: HttpRequest, form: ConversationForm) -> dict[str, Any]:
    page = Paginator(Conversation.objects.with_counts(), PAGE_LENGTH).get_page(request.GET.get("page"))
    return {
        "page": page,
        "form": form,
        "message_count": Message.objects.count(),
        "email_count": Email.objects.count(),
    }


def _open(form: ConversationForm) -> Conversation | None:
    try:
        return desk.open_conversation(**form.cleaned_data)
    except ValidationError as error:
        form.add_error(None, error.messages)
        return None


def _write(conversation: Conversation, form: MessageForm) -> Message | None:
    from_customer = not form.cleaned_data["from_desk"]
    try:
        return desk.write_message(conversation.pk, form.cleaned_data["body"], from_customer=from_customer)
    except ValidationError as error:
        form.add_error(None, error.messages)
        return None
