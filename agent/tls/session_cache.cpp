// SPDX-License-Identifier: Apache-2.0
#include "tls/session_cache.hpp"

#include <openssl/ssl.h>

namespace mesh::tls {

void SessionCache::put(const std::string& server, const ssl_session_st* session, base::WallTime until) {
  if (sessions_.size() >= kMax && !sessions_.contains(server)) clear();
  Kept& kept = sessions_[server];
  SSL_SESSION_free(kept.session);
  kept = {SSL_SESSION_dup(session), until};
}

void SessionCache::drop(const std::string& server) {
  const auto known = sessions_.find(server);
  if (known == sessions_.end()) return;
  SSL_SESSION_free(known->second.session);
  sessions_.erase(known);
}

SessionCache::Found SessionCache::find(const std::string& server, base::WallTime now) const {
  const auto known = sessions_.find(server);
  if (known == sessions_.end() || now >= known->second.until || known->second.session == nullptr) return {};
  return {SSL_SESSION_dup(known->second.session), known->second.until};
}

void SessionCache::clear() {
  for (const auto& [server, kept] : sessions_) SSL_SESSION_free(kept.session);
  sessions_.clear();
}

}  // namespace mesh::tls
