"""The command `taxakey`: one thin file per subcommand, with every heavy import inside the function."""
