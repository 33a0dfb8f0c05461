"""How data sets lie on disk: which files hold rows, how rows are read, and what their fields mean."""
