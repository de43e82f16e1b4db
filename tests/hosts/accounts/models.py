"""Users with a UUID for the key, and without a user name."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class AccountManager(BaseUserManager["Account"]):
    """Creates superusers."""

    def create_superuser(self, email: str, password: str) -> Account:
        """Create a user that may do everything."""
        account = self.model(email=email, is_superuser=True)
        account.set_password(password)
        account.save()
        return account


class Account(AbstractBaseUser, PermissionsMixin):
    """A person."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)

    objects = AccountManager()

    USERNAME_FIELD = "email"

    @property
    def is_staff(self) -> bool:
        """Return whether the person may use the admin."""
        return self.is_superuser
