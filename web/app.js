// The page comes from branch web.
