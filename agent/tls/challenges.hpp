// SPDX-License-Identifier: Apache-2.0
// Challenges tls-alpn-01 (RFC 8737) that wait for an issuer to look: a client that offers the protocol "acme-tls/1",
// and only it, and asks for one of these names, gets its certificate, and no connection goes on from there. For any
// thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "tls/certificate.hpp"

namespace mesh::tls {

inline constexpr std::string_view kChallengeProtocol = "acme-tls/1";

class Challenges {
 public:
  /// `name` as normal_name() makes it; nullptr: nobody waits for it any more.
  void set(const std::string& name, std::shared_ptr<const Certificate> certificate) {
    const std::lock_guard lock(mutex_);
    if (certificate) {
      waiting_[name] = std::move(certificate);
    } else {
      waiting_.erase(name);
    }
  }
  [[nodiscard]] std::shared_ptr<const Certificate> find(std::string_view name) const {
    const std::lock_guard lock(mutex_);
    const auto found = waiting_.find(name);
    return found == waiting_.end() ? nullptr : found->second;
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Certificate>, std::less<>> waiting_;
};

}  // namespace mesh::tls
