"""The command line has one file for each command. Heavy packages are imported only when a command needs them."""
