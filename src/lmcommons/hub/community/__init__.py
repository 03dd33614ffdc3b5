"""What people do together in repositories: discussions, pull requests, likes, collections, webhooks."""
