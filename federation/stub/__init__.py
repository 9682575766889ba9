"""The front door's tools for a client that starts its servers itself, signed with the agent's own key; needs a URL and a token, and no database."""
