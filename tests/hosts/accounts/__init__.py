"""An app with another model of users than Django's."""
