"""Pictures that explain the method."""
