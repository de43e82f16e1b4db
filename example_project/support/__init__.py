"""The support desk: a Django app that sends its messages and imported mails to Evermuse."""
