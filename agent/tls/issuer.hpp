// SPDX-License-Identifier: Apache-2.0
// Makes authorities and X509-SVIDs, for labs: EC P-256. Time in, PEM texts out.
#pragma once

#include <string>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/spiffe.hpp"

namespace mesh::tls {

struct IssuedPem {
  std::string certificate;
  std::string key;
  base::WallTime ends{};
};

/// The authority of a trust domain: it issues workloads' certificates and no other authorities.
base::Result<IssuedPem> make_authority(const std::string& trust_domain, base::WallTime now, base::Duration life);

/// A workload's certificate, which ends no later than the authority's. It begins five minutes ago, for clocks that are
/// late. kInvalid if `id` is of another trust domain or names none of its workloads, or the texts are no authority.
base::Result<IssuedPem> issue_svid(const std::string& authority, const std::string& authority_key, const SpiffeId& id,
                                   base::WallTime now, base::Duration life);

/// Of an authority that make_authority() made.
base::Result<std::string> trust_domain_of(const std::string& authority);

}  // namespace mesh::tls
