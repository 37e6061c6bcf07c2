// SPDX-License-Identifier: Apache-2.0
#include "acme/issuance.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "acme/jws.hpp"

namespace mesh::acme {
namespace {

using std::chrono::seconds;
using Json = nlohmann::json;

constexpr seconds kPollMax{10};       // between looks at what the issuer works on
constexpr seconds kRetryInPlace{60};  // an issuer that asks for more gets a new order later
constexpr seconds kRetryAfterMax{24 * 3600};
constexpr unsigned kTooManyRequests = 429;

std::string_view to_string(Challenge challenge) { return challenge == Challenge::kHttp01 ? "http-01" : "tls-alpn-01"; }

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  return text;
}

/// Why the issuer did not find the answer, whatever it calls that.
std::string reach_remedy(Challenge challenge) {
  return challenge == Challenge::kHttp01
             ? "the issuer must reach port 80 of this name, and that must be relay.acme.listen of this node"
             : "the issuer must reach port 443 of this name, and that must be a terminating listener of this node";
}

}  // namespace

base::Error error_of(const Problem& problem, std::string_view doing, Challenge challenge) {
  using base::ErrorKind;
  const std::string& type = problem.type;
  base::Error error{ErrorKind::kInvalid, std::string(doing) + ": ", "", 0};
  error.message += problem.detail.empty() ? "refused" : problem.detail;
  if (!type.empty()) error.message += " (" + type + ")";
  if (type == "rateLimited") {
    error.kind = ErrorKind::kExhausted;
    error.remedy = "it is tried again when the issuer allows it";
  } else if (type == "externalAccountRequired") {
    error.remedy = "set relay.acme.eab to what the issuer gave you";
  } else if (type == "dns") {
    error.remedy = "check the A and AAAA records of the name";
  } else if (type == "caa") {
    error.remedy = "allow this issuer in the CAA record of the name";
  } else if (type == "connection" || type == "unauthorized" || type == "incorrectResponse" || type == "tls") {
    error.kind = ErrorKind::kUnavailable;
    error.remedy = reach_remedy(challenge);
  } else if (type == "rejectedIdentifier" || type == "unsupportedIdentifier") {
    error.remedy = "this issuer does not certify the name: remove it";
  } else if (type == "userActionRequired") {
    error.remedy = "the issuer wants you to visit a page: it is named here";
  } else if (type == "invalidContact" || type == "unsupportedContact") {
    error.remedy = "correct relay.acme.contact";
  } else if (type == "serverInternal") {
    error.kind = ErrorKind::kUnavailable;
  }
  return error;
}

std::string renewal_name(std::string_view chain_pem) {
  const tls::RenewalId id = tls::renewal_id(chain_pem);
  if (id.key_identifier.empty() || id.serial.empty()) return {};
  return base64url(id.key_identifier) + "." + base64url(id.serial);
}

Step Issuance::next(base::TimePoint now) {
  if (end_) return *end_;
  if (!deadline_) deadline_ = now + kIssuanceMax;
  if (now >= *deadline_) {
    fail({base::ErrorKind::kTimeout, "the issuer did not decide within 10 minutes", "it is tried again", 0});
    return *end_;
  }
  if (wait_until_ && now < *wait_until_) return Wait{std::min(*wait_until_, *deadline_)};
  wait_until_.reset();
  if (requests_ >= kRequestsMax) {
    fail({base::ErrorKind::kExhausted, "more than " + std::to_string(kRequestsMax) + " requests for one certificate",
          "ask for fewer names in one certificate", 0});
    return *end_;
  }
  if (state_ == State::kDirectory) return Send{"GET", wish_.directory, ""};
  asking_nonce_ = nonce_.empty();
  if (asking_nonce_) return Send{"HEAD", directory_.new_nonce, ""};
  return Send{"POST", url(),
              sign({wish_.account_key, state_ == State::kAccount ? "" : wish_.account}, nonce_, url(), payload())};
}

const std::string& Issuance::url() const {
  switch (state_) {
    case State::kAccount:
      return directory_.new_account;
    case State::kContact:
      return wish_.account;
    case State::kNewOrder:
      return directory_.new_order;
    case State::kAuthorization:
      return order_.authorizations[authorization_];
    case State::kChallenge:
      return challenge_url_;
    case State::kFinalize:
      return order_.finalize;
    case State::kCertificate:
      return order_.certificate;
    case State::kOrder:
    case State::kDirectory:
    case State::kOver:
      break;
  }
  return order_url_;
}

std::string Issuance::account_payload() const {
  Json json = {{"contact", wish_.contact}};
  if (state_ == State::kAccount) {
    json["termsOfServiceAgreed"] = true;
    if (!wish_.binding_kid.empty()) {
      json["externalAccountBinding"] =
          Json::parse(binding(wish_.binding_kid, wish_.binding_key, wish_.account_key, directory_.new_account));
    }
  }
  return json.dump();
}

std::string Issuance::payload() const {
  switch (state_) {
    case State::kAccount:
    case State::kContact:
      return account_payload();
    case State::kNewOrder: {
      Json identifiers = Json::array();
      for (const std::string& name : wish_.names) identifiers.push_back({{"type", "dns"}, {"value", name}});
      Json json = {{"identifiers", std::move(identifiers)}};
      if (!wish_.replaces.empty() && !directory_.renewal_info.empty()) json["replaces"] = wish_.replaces;
      return json.dump();
    }
    case State::kChallenge:
      return "{}";
    case State::kFinalize:
      return Json{{"csr", base64url(wish_.request)}}.dump();
    default:
      return "";  // only asks
  }
}

void Issuance::answered(const base::Result<Answer>& result, base::TimePoint now) {
  if (end_) return;
  ++requests_;
  const bool was_nonce = std::exchange(asking_nonce_, false);
  if (state_ != State::kDirectory && !was_nonce) nonce_.clear();  // it was used
  if (!result) return trip(result.error(), std::nullopt, now);
  if (!result->nonce.empty()) nonce_ = result->nonce;
  if (!result->ok()) return refused(*result, now);
  if (was_nonce) {
    if (nonce_.empty()) trip({base::ErrorKind::kInvalid, "ask for a nonce: the answer has none", "", 0}, {}, now);
    return;
  }
  nonce_refusals_ = 0;
  take(*result, now);
}

void Issuance::take(const Answer& answer, base::TimePoint now) {
  base::Result<void> taken;
  switch (state_) {
    case State::kDirectory: {
      auto directory = parse_directory(answer.body);
      if (!directory) return fail(directory.error());
      directory_ = std::move(*directory);
      if (directory_.binding_required && wish_.binding_kid.empty() && wish_.account.empty()) {
        return fail(error_of({"externalAccountRequired", "the issuer wants accounts to be bound"}, "make an account",
                             wish_.challenge));
      }
      state_ = wish_.account.empty() ? State::kAccount : wish_.contact_changed ? State::kContact : State::kNewOrder;
      return;
    }
    case State::kAccount:
      if (!is_good_url(answer.location)) {
        return fail({base::ErrorKind::kInvalid, "make an account: the answer names none", "", 0});
      }
      wish_.account = answer.location;
      // 201: made just now, with this contact. Else the key had one before.
      wish_.contact_changed = answer.status != 201;
      state_ = wish_.contact_changed ? State::kContact : State::kNewOrder;
      return;
    case State::kContact:
      wish_.contact_changed = false;
      state_ = State::kNewOrder;
      return;
    case State::kNewOrder:
      if (!is_good_url(answer.location)) {
        return fail({base::ErrorKind::kInvalid, "make an order: the answer names none", "", 0});
      }
      order_url_ = answer.location;
      taken = take_order(answer, now);
      break;
    case State::kOrder:
    case State::kFinalize:
      taken = take_order(answer, now);
      break;
    case State::kAuthorization:
      taken = take_authorization(answer, now);
      break;
    case State::kChallenge:
      challenged_ = true;
      state_ = State::kAuthorization;
      return pause(answer.retry_after, now);
    case State::kCertificate:
      end_ = Issued{answer.body};
      state_ = State::kOver;
      presented_.reset();
      return;
    case State::kOver:
      return;
  }
  if (!taken) fail(std::move(taken).error());
}

base::Result<void> Issuance::take_order(const Answer& answer, base::TimePoint now) {
  const bool asked_to_finalize = state_ == State::kFinalize;
  order_ = MESH_TRY(parse_order(answer.body));
  state_ = State::kOrder;
  switch (order_.status) {
    case Status::kPending:
      authorization_ = 0;
      challenged_ = false;
      state_ = State::kAuthorization;
      // All were granted, and the order does not know yet.
      if (std::exchange(order_was_pending_, true)) pause(answer.retry_after, now);
      return {};
    case Status::kReady:
      presented_.reset();
      if (asked_to_finalize) {
        pause(answer.retry_after, now);
      } else {
        state_ = State::kFinalize;
      }
      return {};
    case Status::kProcessing:
      pause(answer.retry_after, now);
      return {};
    case Status::kValid:
      state_ = State::kCertificate;
      return {};
    case Status::kInvalid:
      break;
  }
  return std::unexpected(error_of(order_.error.value_or(Problem{"", "the issuer refused the order"}),
                                  "get the certificate", wish_.challenge));
}

base::Result<void> Issuance::take_authorization(const Answer& answer, base::TimePoint now) {
  const Authorization authorization = MESH_TRY(parse_authorization(answer.body));
  const std::string name = lower(authorization.name);
  if (std::ranges::find(wish_.names, name) == wish_.names.end()) {
    return base::fail(base::ErrorKind::kInvalid, "prove the names: the issuer asks for one that is not in the order");
  }
  const auto offered = std::ranges::find(authorization.challenges, to_string(wish_.challenge), &OfferedChallenge::type);
  if (authorization.status == Status::kInvalid) {
    Problem problem{"", "the issuer refused the name"};
    for (const OfferedChallenge& one : authorization.challenges) problem = one.error.value_or(problem);
    return std::unexpected(error_of(problem, "prove " + name, wish_.challenge));
  }
  if (authorization.status == Status::kValid) {
    presented_.reset();
    challenged_ = false;
    poll_interval_ = seconds(1);
    if (++authorization_ >= order_.authorizations.size()) state_ = State::kOrder;
    return {};
  }
  if (offered == authorization.challenges.end()) {
    std::string types;
    for (const OfferedChallenge& one : authorization.challenges) types += (types.empty() ? "" : ", ") + one.type;
    return base::fail(
        base::ErrorKind::kInvalid,
        "prove " + name + ": the issuer does not offer " + std::string(to_string(wish_.challenge)) + ", but " + types,
        "set relay.acme.challenge to another one");
  }
  if (challenged_) {
    pause(answer.retry_after, now);
    return {};
  }
  challenge_url_ = offered->url;
  presented_ = Presented{name, offered->token, key_authorization(offered->token, wish_.account_key)};
  if (offered->status == Status::kPending) {
    state_ = State::kChallenge;
  } else {
    challenged_ = true;  // before an answer got lost
    pause(answer.retry_after, now);
  }
  return {};
}

void Issuance::refused(const Answer& answer, base::TimePoint now) {
  const Problem problem = parse_problem(answer.body);
  if (problem.type == "badNonce") {
    if (++nonce_refusals_ <= kNonceRefusalsMax) return;  // again, with the nonce of the answer
    return fail(
        {base::ErrorKind::kInvalid, "the issuer refuses every nonce", "look whether a proxy caches answers", 0});
  }
  nonce_refusals_ = 0;
  const bool by_account = state_ == State::kContact || state_ == State::kNewOrder;
  if (problem.type == "accountDoesNotExist" && by_account && trips_ < kTripsMax) {
    ++trips_;
    wish_.account.clear();
    state_ = State::kAccount;
    return;
  }
  if (problem.type == "alreadyReplaced" && state_ == State::kNewOrder && !wish_.replaces.empty()) {
    wish_.replaces.clear();
    return;
  }
  if (problem.type == "orderNotReady" && state_ == State::kFinalize) {
    state_ = State::kOrder;
    return pause(answer.retry_after, now);
  }
  constexpr std::string_view kDoing[] = {"read the directory", "make an account",    "set the account's contact",
                                         "make an order",      "look at the order",  "look at an authorization",
                                         "answer a challenge", "finalize the order", "fetch the certificate"};
  base::Error error = error_of(problem, kDoing[static_cast<std::size_t>(state_)], wish_.challenge);
  error.message += ", status " + std::to_string(answer.status);
  const bool limited = problem.type == "rateLimited" || answer.status == kTooManyRequests;
  if (answer.status >= 500 && !limited) return trip(std::move(error), answer.retry_after, now);
  fail(std::move(error), answer.retry_after);
}

/// Tries it again soon: what the order has become in the meantime decides.
void Issuance::trip(base::Error error, std::optional<seconds> retry_after, base::TimePoint now) {
  if (++trips_ > kTripsMax || retry_after.value_or(seconds(0)) > kRetryInPlace) {
    return fail(std::move(error), retry_after);
  }
  if (!order_url_.empty()) {
    state_ = State::kOrder;
    order_was_pending_ = false;
  }
  wait_until_ = now + std::max(retry_after.value_or(seconds(0)), seconds(1 << trips_));
}

void Issuance::pause(std::optional<seconds> retry_after, base::TimePoint now) {
  wait_until_ = now + std::clamp(retry_after.value_or(poll_interval_), seconds(1), seconds(kIssuanceMax));
  poll_interval_ = std::min(poll_interval_ * 2, kPollMax);
}

void Issuance::fail(base::Error error, std::optional<seconds> retry_after) {
  if (retry_after) retry_after = std::min(*retry_after, kRetryAfterMax);
  end_ = Failed{std::move(error), retry_after};
  state_ = State::kOver;
  presented_.reset();
}

}  // namespace mesh::acme
