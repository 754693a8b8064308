"""What manifests are made of: a folder's files, or a kustomization built from a private copy of what it names."""
