// SPDX-License-Identifier: Apache-2.0
// Certificates that say who a workload is (X509-SVID specification), and whom to believe: trust bundles by trust
// domain.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/certificate.hpp"
#include "tls/spiffe.hpp"

struct ossl_lib_ctx_st;
struct stack_st_X509;
struct x509_store_st;

namespace mesh::tls {

/// Which rule a leaf certificate breaks.
enum class SvidFault : std::uint8_t {
  kNone,
  kNoUri,         ///< It has no URI name.
  kSeveralUris,   ///< It has more than one.
  kNotSpiffe,     ///< Its URI name is no SPIFFE ID.
  kNoPath,        ///< It names a trust domain, not a workload.
  kAuthority,     ///< It may issue certificates.
  kNoSignature,   ///< Its key usage is not set, or does not say digital signature.
  kSignsOthers,   ///< Its key usage says certificate or CRL signing.
  kExtendedHalf,  ///< Its extended key usage lacks server or client authentication.
};
inline constexpr std::size_t kSvidFaults = 9;
std::string_view to_string(SvidFault fault);  ///< "certificate has no SPIFFE ID", ...

struct SvidCheck {
  SvidFault fault = SvidFault::kNone;
  SpiffeId id;  ///< If kNone.
};
SvidCheck check_svid(x509_st* certificate);
/// The ID of a certificate of our own. kInvalid if it is no SVID.
base::Result<SpiffeId> svid_of(const Certificate& certificate);

/// Whose certificates are believed, by trust domain: an authority vouches for its own domain only. Immutable.
class Trust {
 public:
  using Bundles = std::map<std::string, std::shared_ptr<const Authorities>, std::less<>>;

  explicit Trust(Bundles bundles) : bundles_(std::move(bundles)) {}
  [[nodiscard]] const Bundles& bundles() const { return bundles_; }
  /// Differs when what is trusted or revoked does.
  [[nodiscard]] std::string mark() const;

 private:
  Bundles bundles_;
};

enum class PeerSide : std::uint8_t { kClient, kServer };

/// A Trust as one thread uses it.
class TrustStores {
 public:
  TrustStores(std::shared_ptr<const Trust> trust, ossl_lib_ctx_st* library);
  ~TrustStores();
  TrustStores(const TrustStores&) = delete;
  TrustStores& operator=(const TrustStores&) = delete;

  struct Verdict {
    std::string_view refusal{};  ///< One of a few fixed texts: "certificate expired"; empty: it is believed.
    long fault = 0;              ///< The library's number for it, which the alert is chosen by.
    SpiffeId id{};               ///< If it is.
    base::WallTime until{};      ///< And how long that holds, while the bundles stay.
  };
  /// Rules, trust domain, chain (`untrusted` may be null) and revocation. No name of a host counts.
  [[nodiscard]] Verdict verify(x509_st* leaf, stack_st_X509* untrusted, PeerSide side) const;

 private:
  std::shared_ptr<const Trust> trust_;
  ossl_lib_ctx_st* library_;
  std::map<std::string, x509_store_st*, std::less<>> stores_;
};

}  // namespace mesh::tls
