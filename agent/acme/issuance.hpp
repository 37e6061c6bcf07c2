// SPDX-License-Identifier: Apache-2.0
// One certificate from an ACME issuer (RFC 8555): a state machine without I/O. It says what to do next, and takes the
// answers. What the order's status is decides what follows, so that an answer that got lost costs a look at the order.
//
//   directory ─▶ account ─▶ contact ─▶ new order ─▶ order ─┬▶ authorization ⇄ challenge   (pending)
//                                                  ▲       ├▶ finalize                    (ready)
//                                                  └───────┴▶ certificate ─▶ issued       (valid)
//
// Every way ends: in a certificate, or in an error within kIssuanceMax and kRequestsMax.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "acme/answers.hpp"
#include "acme/settings.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/private_key.hpp"

namespace mesh::acme {

inline constexpr auto kIssuanceMax = std::chrono::minutes(10);
inline constexpr std::size_t kRequestsMax = 2000;     ///< Of one certificate; 100 names take about 500.
inline constexpr std::size_t kNonceRefusalsMax = 25;  ///< Of one request.
inline constexpr std::size_t kTripsMax = 4;           ///< Answers that did not come, or said that the issuer is ill.

/// What is wanted.
struct Wish {
  std::string directory;
  std::vector<std::string> names;
  Challenge challenge = Challenge::kTlsAlpn01;
  std::vector<std::string> contact;
  std::string binding_kid;  ///< Empty: none.
  std::string binding_key;  ///< Bytes.
  tls::PrivateKey account_key;
  std::string account;           ///< Its URL, as far as is known.
  bool contact_changed = false;  ///< Since the account was made.
  std::string request;           ///< Of the certificate, DER.
  std::string replaces;          ///< As renewal_name() makes it; empty: nothing.
};

/// A request; with a body it is application/jose+json.
struct Send {
  std::string method;
  std::string url;
  std::string body;
};
struct Wait {
  base::TimePoint until;
};
struct Issued {
  std::string chain;  ///< PEM
};
struct Failed {
  base::Error error;
  std::optional<std::chrono::seconds> retry_after;  ///< The issuer does not want to be asked before.
};
using Step = std::variant<Send, Wait, Issued, Failed>;

/// What has to be answered while it waits.
struct Presented {
  std::string name;
  std::string token;
  std::string key_authorization;
  bool operator==(const Presented&) const = default;
};

class Issuance {
 public:
  explicit Issuance(Wish wish) : wish_(std::move(wish)) {}

  /// The same again until answered() is called or the time has come.
  Step next(base::TimePoint now);
  /// To the Send that next() gave last: an error if no answer came.
  void answered(const base::Result<Answer>& answer, base::TimePoint now);

  [[nodiscard]] const std::optional<Presented>& presented() const { return presented_; }
  [[nodiscard]] const std::string& account() const { return wish_.account; }
  [[nodiscard]] bool contact_known() const { return !wish_.contact_changed; }
  [[nodiscard]] const Directory& directory() const { return directory_; }

 private:
  enum class State : std::uint8_t {
    kDirectory,
    kAccount,
    kContact,
    kNewOrder,
    kOrder,
    kAuthorization,
    kChallenge,
    kFinalize,
    kCertificate,
    kOver,
  };

  [[nodiscard]] std::string payload() const;
  [[nodiscard]] std::string account_payload() const;
  [[nodiscard]] const std::string& url() const;
  void take(const Answer& answer, base::TimePoint now);
  base::Result<void> take_order(const Answer& answer, base::TimePoint now);
  base::Result<void> take_authorization(const Answer& answer, base::TimePoint now);
  void refused(const Answer& answer, base::TimePoint now);
  void trip(base::Error error, std::optional<std::chrono::seconds> retry_after, base::TimePoint now);
  void pause(std::optional<std::chrono::seconds> retry_after, base::TimePoint now);
  void fail(base::Error error, std::optional<std::chrono::seconds> retry_after = std::nullopt);

  Wish wish_;
  State state_ = State::kDirectory;
  Directory directory_;
  std::string nonce_;
  bool asking_nonce_ = false;
  std::string order_url_;
  Order order_;
  bool order_was_pending_ = false;
  std::size_t authorization_ = 0;  ///< Of order_.authorizations: the one under way.
  bool challenged_ = false;        ///< The issuer was told to look at it.
  std::string challenge_url_;
  std::optional<Presented> presented_;
  std::optional<base::TimePoint> deadline_;
  std::optional<base::TimePoint> wait_until_;
  std::chrono::seconds poll_interval_{1};
  std::size_t requests_ = 0;
  std::size_t nonce_refusals_ = 0;
  std::size_t trips_ = 0;
  std::optional<Step> end_;
};

/// How a certificate is called where renewal information is asked for (RFC 9773, 4.1); empty: it can't be.
std::string renewal_name(std::string_view chain_pem);

/// What a refusal means for the operator.
base::Error error_of(const Problem& problem, std::string_view doing, Challenge challenge);

}  // namespace mesh::acme
