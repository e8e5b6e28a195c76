"""What each op of an exported graph does to distances; one file a family, one registered function a rule."""
