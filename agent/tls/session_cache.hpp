// SPDX-License-Identifier: Apache-2.0
// Sessions that a client may resume with the servers that gave them out. Belongs to one context and so to one thread:
// other certificates or bundles make another context, and what was verified by the old ones is not resumed.
#pragma once

#include <cstddef>
#include <string>
#include <unordered_map>

#include "base/clock.hpp"

struct ssl_session_st;

namespace mesh::tls {

class SessionCache {
 public:
  static constexpr std::size_t kMax = 10'000;  ///< Servers; then all are forgotten.

  SessionCache() = default;
  ~SessionCache() { clear(); }
  SessionCache(const SessionCache&) = delete;
  SessionCache& operator=(const SessionCache&) = delete;

  /// Keeps a copy: the library takes the right to be resumed from the session of a connection that was cut off.
  /// `until`: how long what was verified in its handshake counts.
  void put(const std::string& server, const ssl_session_st* session, base::WallTime until);

  /// What a handshake failed with is not tried again.
  void drop(const std::string& server);

  struct Found {
    ssl_session_st* session = nullptr;  ///< The caller's, to free; null: there is none.
    base::WallTime until{};
  };
  [[nodiscard]] Found find(const std::string& server, base::WallTime now) const;
  [[nodiscard]] std::size_t size() const { return sessions_.size(); }

 private:
  struct Kept {
    ssl_session_st* session = nullptr;
    base::WallTime until{};
  };
  void clear();
  std::unordered_map<std::string, Kept> sessions_;  ///< The newest of each server.
};

}  // namespace mesh::tls
