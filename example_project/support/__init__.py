"""The example host: a small support desk whose messages and mails go to Evermuse."""
