// SPDX-License-Identifier: Apache-2.0
// What waits for an issuer to look at it. Written by the thread that fetches, read by those that answer.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "tls/challenges.hpp"

namespace mesh::acme {

inline constexpr std::string_view kChallengePath = "/.well-known/acme-challenge/";

class Board {
 public:
  void set_token(const std::string& token, std::string key_authorization) {
    const std::lock_guard lock(mutex_);
    tokens_[token] = std::move(key_authorization);
  }
  void clear_tokens() {
    const std::lock_guard lock(mutex_);
    tokens_.clear();
  }
  /// What is said to who asks for `target` of http-01; empty: nothing is there.
  [[nodiscard]] std::string answer(std::string_view target) const {
    if (!target.starts_with(kChallengePath)) return {};
    const std::lock_guard lock(mutex_);
    const auto found = tokens_.find(target.substr(kChallengePath.size()));
    return found == tokens_.end() ? std::string() : found->second;
  }
  /// Of tls-alpn-01.
  const std::shared_ptr<tls::Challenges> certificates = std::make_shared<tls::Challenges>();

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::string, std::less<>> tokens_;
};

}  // namespace mesh::acme
