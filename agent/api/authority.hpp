// SPDX-License-Identifier: Apache-2.0
// What `meshd ca` did.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/codec.hpp"

namespace mesh::api {

struct AuthorityView {
  static constexpr std::string_view kKind = "Authority";
  std::string trust_domain;
  std::string id;                  ///< Of what was issued; empty: of the authority itself.
  std::string expires_at;          ///< Of the certificate that was made.
  std::uint64_t authorities = 0;   ///< In the bundle.
  std::vector<std::string> files;  ///< That were written.
  std::string next;                ///< What to do with them.
  static void fields(auto& self, auto& visit) {
    visit("trust_domain", self.trust_domain);
    visit("id", self.id);
    visit("expires_at", self.expires_at);
    visit("authorities", self.authorities);
    visit("files", self.files);
    visit("next", self.next);
  }
};

}  // namespace mesh::api
