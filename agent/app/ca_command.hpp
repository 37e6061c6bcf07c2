// SPDX-License-Identifier: Apache-2.0
// The authority for labs, in a folder: ca.crt and ca.key (0600) of the one that issues now, and bundle.crt with it and
// the ones before it that are still believed. Where the folder is, the key is; nothing sends it anywhere.
#pragma once

#include <chrono>
#include <string>

#include "api/authority.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"

namespace mesh::app {

inline constexpr std::chrono::days kAuthorityDays{3650};
inline constexpr std::chrono::hours kIssuedHours{24};

struct AuthorityRequest {
  std::string folder = "/etc/meshd/ca";
  std::string trust_domain;                    ///< init
  std::string id;                              ///< issue
  std::string out;                             ///< issue: the folder that tls.crt, tls.key and ca.crt are written to.
  std::int64_t days = kAuthorityDays.count();  ///< init, rotate: the life of the authority.
  std::int64_t hours = kIssuedHours.count();   ///< issue: the life of the certificate.
  bool finish = false;                         ///< rotate: believe the newest alone.
};

/// kConflict if the folder has an authority.
base::Result<api::AuthorityView> init_authority(const AuthorityRequest& request, base::WallTime now);
base::Result<api::AuthorityView> issue_certificate(const AuthorityRequest& request, base::WallTime now);
/// A new key. The bundle has the old authority and the new one, so that certificates of both are believed.
base::Result<api::AuthorityView> rotate_authority(const AuthorityRequest& request, base::WallTime now);

}  // namespace mesh::app
