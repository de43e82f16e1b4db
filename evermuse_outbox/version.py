"""The version of the package. All other files read it from here."""

VERSION = "0.1.0"
