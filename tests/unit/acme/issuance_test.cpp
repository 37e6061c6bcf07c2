// SPDX-License-Identifier: Apache-2.0
// The state machine against an issuer of a few lines, which keeps the rules that matter to a client and breaks those
// that a test names.
#include "acme/issuance.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "acme/jws.hpp"
#include "base/random.hpp"

namespace mesh::acme {
namespace {

using Json = nlohmann::json;
using std::chrono::seconds;

std::string problem(const std::string& type, const std::string& detail = "no") {
  return Json{{"type", "urn:ietf:params:acme:error:" + type}, {"detail", detail}}.dump();
}

class Issuer {
 public:
  bool renewal_info = false;
  bool must_bind = false;
  int nonce_refusals = 0;        ///< Of the next requests.
  int polls = 1;                 ///< Looks at an authorization until it is decided, and at an order that is finalized.
  std::optional<seconds> pause;  ///< That it asks for after a challenge.
  std::string refuses_names;     ///< The problem of authorizations.
  std::string offers = "tls-alpn-01";
  std::string known_account = "https://ca/account/1";
  /// Instead of the answer to a path; nothing: as ever.
  std::function<std::optional<base::Result<Answer>>(const std::string& path)> fault;
  std::map<std::string, int> asked;
  Json order_payload, account_payload, contact_payload;
  std::set<std::string> looked_at;  ///< Challenges, when the client had presented them.

  base::Result<Answer> answer(const Send& send, const std::optional<Presented>& presented) {
    const std::string path = send.url.substr(std::string("https://ca/").size());
    ++asked[path];
    if (fault) {
      if (auto other = fault(path)) return *other;
    }
    if (path == "directory") {
      Json json = {{"newNonce", "https://ca/nonce"},
                   {"newAccount", "https://ca/new-account"},
                   {"newOrder", "https://ca/new-order"}};
      if (renewal_info) json["renewalInfo"] = "https://ca/ari";
      if (must_bind) json["meta"]["externalAccountRequired"] = true;
      return Answer{200, json.dump(), "", "", {}};
    }
    if (path == "nonce") return Answer{200, "", new_nonce(), "", {}};
    const Json request = Json::parse(send.body);
    const Json header = Json::parse(*base64url_decode(request["protected"].get<std::string>()));
    EXPECT_EQ(header["url"], send.url);
    EXPECT_EQ(header.contains("jwk"), path == "new-account");
    if (nonces_.erase(header["nonce"].get<std::string>()) == 0 || nonce_refusals > 0) {
      --nonce_refusals;
      return Answer{400, problem("badNonce"), new_nonce(), "", {}};
    }
    const std::string text = *base64url_decode(request["payload"].get<std::string>());
    Answer answer = serve(path, text.empty() ? Json() : Json::parse(text), header.value("kid", ""), presented);
    answer.nonce = new_nonce();
    return answer;
  }

 private:
  std::string new_nonce() {
    nonces_.insert("nonce" + std::to_string(++nonce_));
    return "nonce" + std::to_string(nonce_);
  }
  [[nodiscard]] std::string order() const {
    Json json = {{"status", status_}, {"finalize", "https://ca/finalize"}, {"authorizations", Json::array()}};
    for (std::size_t i = 0; i < names_.size(); ++i)
      json["authorizations"].push_back("https://ca/authz/" + std::to_string(i));
    if (status_ == "valid") json["certificate"] = "https://ca/certificate";
    return json.dump();
  }
  Answer serve(const std::string& path, const Json& payload, const std::string& kid,
               const std::optional<Presented>& presented) {
    if (path == "new-account") {
      account_payload = payload;
      known_account = "https://ca/account/2";
      return {201, "{\"status\":\"valid\"}", "", known_account, {}};
    }
    if (kid != known_account) return {400, problem("accountDoesNotExist"), "", "", {}};
    if (path.starts_with("account/")) {
      contact_payload = payload;
      return {200, "{}", "", "", {}};
    }
    if (path == "new-order") {
      if (payload.contains("replaces") && payload["replaces"] == "gone")
        return {409, problem("alreadyReplaced"), "", "", {}};
      order_payload = payload;
      names_.clear();
      for (const Json& one : payload["identifiers"]) names_.push_back(one["value"]);
      status_ = "pending";
      return {201, order(), "", "https://ca/order", {}};
    }
    if (path.starts_with("authz/")) {
      const std::size_t index = std::stoul(path.substr(6));
      std::string status = "pending";
      if (told_.contains(index) && ++looks_[index] > polls) status = refuses_names.empty() ? "valid" : "invalid";
      if (status == "valid") granted_.insert(index);
      if (granted_.size() == names_.size() && status_ == "pending") status_ = "ready";
      Json challenge = {{"type", offers},
                        {"url", "https://ca/challenge/" + std::to_string(index)},
                        {"token", "token" + std::to_string(index)},
                        {"status", told_.contains(index) ? "processing" : "pending"}};
      if (status == "invalid") challenge["error"] = Json::parse(problem(refuses_names, "could not connect"));
      return {200,
              Json{{"status", status},
                   {"identifier", {{"type", "dns"}, {"value", names_[index]}}},
                   {"challenges", {{{"type", "dns-01"}}, challenge}}}
                  .dump(),
              "",
              "",
              {}};
    }
    if (path.starts_with("challenge/")) {
      const std::size_t index = std::stoul(path.substr(10));
      EXPECT_TRUE(presented && presented->name == names_[index]) << "the answer is there before the issuer looks";
      if (presented) looked_at.insert(presented->key_authorization);
      told_.insert(index);
      return {200, "{}", "", "", pause};
    }
    if (path == "finalize") {
      EXPECT_FALSE(base64url_decode(payload["csr"].get<std::string>())->empty());
      if (status_ != "ready") return {403, problem("orderNotReady"), "", "", {}};
      status_ = "processing";
    }
    if (path == "order" && status_ == "processing" && ++finalize_looks_ > polls) status_ = "valid";
    if (path == "certificate") return {200, "the chain", "", "", {}};
    return {200, order(), "", "", {}};
  }

  int nonce_ = 0;
  std::set<std::string> nonces_;
  std::vector<std::string> names_;
  std::string status_;
  std::set<std::size_t> told_, granted_;
  std::map<std::size_t, int> looks_;
  int finalize_looks_ = 0;
};

Wish wish() {
  static const tls::PrivateKey key = tls::PrivateKey::make(tls::KeyType::kEcP256);
  return {.directory = "https://ca/directory",
          .names = {"a.test", "b.test"},
          .contact = {"mailto:ops@a.test"},
          .account_key = key,
          .request = "der"};
}

struct Outcome {
  std::string chain;
  std::optional<Failed> failed;
  base::Duration took{};
};

Outcome run(Issuance& issuance, Issuer& issuer) {
  const base::TimePoint start{seconds(1000)};
  base::TimePoint now = start;
  for (int i = 0; i < 10'000; ++i) {
    const Step step = issuance.next(now);
    if (const auto* const send = std::get_if<Send>(&step)) {
      issuance.answered(issuer.answer(*send, issuance.presented()), now);
    } else if (const auto* const wait = std::get_if<Wait>(&step)) {
      EXPECT_GT(wait->until, now);
      now = wait->until;
    } else if (const auto* const issued = std::get_if<Issued>(&step)) {
      return {issued->chain, {}, now - start};
    } else {
      return {"", std::get<Failed>(step), now - start};
    }
  }
  ADD_FAILURE() << "it never ends";
  return {};
}
Outcome run(const Wish& wanted, Issuer& issuer) {
  Issuance issuance(wanted);
  return run(issuance, issuer);
}

TEST(Issuance, fetches_a_certificate_and_presents_each_answer_before_the_issuer_looks) {
  Issuer issuer;
  Issuance issuance(wish());
  const Outcome outcome = run(issuance, issuer);
  EXPECT_EQ(outcome.chain, "the chain") << (outcome.failed ? outcome.failed->error.to_string() : "");
  EXPECT_EQ(issuance.account(), "https://ca/account/2");
  EXPECT_FALSE(issuance.presented()) << "nobody waits for an answer any more";
  EXPECT_EQ(issuer.account_payload, (Json{{"contact", {"mailto:ops@a.test"}}, {"termsOfServiceAgreed", true}}));
  EXPECT_EQ(issuer.looked_at, (std::set<std::string>{key_authorization("token0", wish().account_key),
                                                     key_authorization("token1", wish().account_key)}));
  EXPECT_EQ(issuer.asked["nonce"], 1) << "the others come with answers";
  EXPECT_LT(outcome.took, std::chrono::minutes(1));
}

TEST(Issuance, a_known_account_is_used_and_a_forgotten_one_made_again) {
  Issuer issuer;
  Wish known = wish();
  known.account = "https://ca/account/1";
  EXPECT_EQ(run(known, issuer).chain, "the chain");
  EXPECT_EQ(issuer.asked["new-account"], 0);
  EXPECT_EQ(issuer.contact_payload, Json());
  known.contact_changed = true;
  Issuer again;
  EXPECT_EQ(run(known, again).chain, "the chain");
  EXPECT_EQ(again.contact_payload, (Json{{"contact", {"mailto:ops@a.test"}}}));
  known.account = "https://ca/account/0";
  known.contact_changed = false;
  Issuer forgot;
  EXPECT_EQ(run(known, forgot).chain, "the chain");
  EXPECT_EQ(forgot.asked["new-account"], 1);
}

TEST(Issuance, accounts_are_bound_where_the_issuer_wants_it) {
  Issuer issuer;
  issuer.must_bind = true;
  const Outcome refused = run(wish(), issuer);
  ASSERT_TRUE(refused.failed);
  EXPECT_NE(refused.failed->error.to_string().find("relay.acme.eab"), std::string::npos);
  Wish bound = wish();
  bound.binding_kid = "kid-1";
  bound.binding_key = "secret";
  EXPECT_EQ(run(bound, issuer).chain, "the chain");
  EXPECT_EQ(issuer.account_payload["externalAccountBinding"],
            Json::parse(binding("kid-1", "secret", bound.account_key, "https://ca/new-account")));
}

TEST(Issuance, refused_nonces_are_replaced_by_that_of_the_answer) {
  Issuer issuer;
  issuer.nonce_refusals = 20;
  EXPECT_EQ(run(wish(), issuer).chain, "the chain");
  EXPECT_EQ(issuer.asked["nonce"], 1);
  Issuer never;
  never.nonce_refusals = 1000;
  const Outcome outcome = run(wish(), never);
  ASSERT_TRUE(outcome.failed);
  EXPECT_EQ(outcome.failed->error.message, "the issuer refuses every nonce");
}

TEST(Issuance, says_what_it_replaces_only_to_issuers_that_offer_renewal_information) {
  Wish renewal = wish();
  renewal.replaces = "aki.serial";
  Issuer without;
  EXPECT_EQ(run(renewal, without).chain, "the chain");
  EXPECT_FALSE(without.order_payload.contains("replaces"));
  Issuer with;
  with.renewal_info = true;
  EXPECT_EQ(run(renewal, with).chain, "the chain");
  EXPECT_EQ(with.order_payload["replaces"], "aki.serial");
  renewal.replaces = "gone";
  Issuer replaced;
  replaced.renewal_info = true;
  EXPECT_EQ(run(renewal, replaced).chain, "the chain");
  EXPECT_FALSE(replaced.order_payload.contains("replaces"));
}

TEST(Issuance, refusals_say_what_to_do_about_them) {
  const auto words = [](const std::string& type, Challenge challenge = Challenge::kTlsAlpn01) {
    Issuer issuer;
    issuer.refuses_names = type;
    issuer.offers = challenge == Challenge::kHttp01 ? "http-01" : "tls-alpn-01";
    Wish wanted = wish();
    wanted.challenge = challenge;
    const Outcome outcome = run(wanted, issuer);
    return outcome.failed ? outcome.failed->error.to_string() : "issued";
  };
  EXPECT_EQ(
      words("connection"),
      "prove a.test: could not connect (connection); the issuer must reach port 443 of this name, and that must be "
      "a terminating listener of this node");
  EXPECT_NE(words("connection", Challenge::kHttp01).find("port 80"), std::string::npos);
  EXPECT_NE(words("dns").find("A and AAAA"), std::string::npos);
  EXPECT_NE(words("caa").find("CAA record"), std::string::npos);
  Issuer other;
  other.offers = "http-01";
  const Outcome outcome = run(wish(), other);
  ASSERT_TRUE(outcome.failed);
  EXPECT_EQ(outcome.failed->error.message, "prove a.test: the issuer does not offer tls-alpn-01, but dns-01, http-01");
}

TEST(Issuance, a_limit_ends_it_and_says_when_to_come_back) {
  Issuer issuer;
  issuer.fault = [](const std::string& path) -> std::optional<base::Result<Answer>> {
    if (path != "new-order") return std::nullopt;
    return Answer{429, problem("rateLimited", "too many certificates"), "n", "", seconds(7200)};
  };
  const Outcome outcome = run(wish(), issuer);
  ASSERT_TRUE(outcome.failed);
  EXPECT_EQ(outcome.failed->error.kind, base::ErrorKind::kExhausted);
  EXPECT_EQ(outcome.failed->retry_after, seconds(7200));
  EXPECT_EQ(issuer.asked["new-order"], 1);
}

TEST(Issuance, answers_that_do_not_come_are_asked_for_again_wherever_it_is) {
  for (const std::string path : {"directory", "nonce", "new-account", "new-order", "authz/1", "challenge/0", "finalize",
                                 "order", "certificate"}) {
    for (const bool ill : {false, true}) {
      Issuer issuer;
      int faults = 2;
      issuer.fault = [&](const std::string& asked) -> std::optional<base::Result<Answer>> {
        if (asked != path || faults-- <= 0) return std::nullopt;
        if (ill) return Answer{503, "<html>busy", "", "", seconds(3)};
        return base::fail(base::ErrorKind::kUnavailable, "no answer");
      };
      const Outcome outcome = run(wish(), issuer);
      EXPECT_EQ(outcome.chain, "the chain") << path << (outcome.failed ? outcome.failed->error.to_string() : "");
      EXPECT_GE(outcome.took, seconds(ill ? 6 : 2)) << "not at once: " << path;
    }
  }
  Issuer gone;
  gone.fault = [](const std::string&) { return base::fail(base::ErrorKind::kUnavailable, "no answer"); };
  const Outcome outcome = run(wish(), gone);
  ASSERT_TRUE(outcome.failed);
  EXPECT_EQ(outcome.failed->error.message, "no answer");
  EXPECT_EQ(gone.asked["directory"], static_cast<int>(kTripsMax) + 1);
}

TEST(Issuance, an_issuer_that_does_not_decide_is_given_up) {
  Issuer issuer;
  issuer.polls = 1'000'000;
  const Outcome outcome = run(wish(), issuer);
  ASSERT_TRUE(outcome.failed);
  EXPECT_EQ(outcome.failed->error.kind, base::ErrorKind::kTimeout);
  EXPECT_EQ(outcome.took, kIssuanceMax);
}

TEST(Issuance, retry_after_is_the_pause_while_the_issuer_works) {
  Issuer issuer;
  issuer.pause = seconds(42);
  const Outcome outcome = run(wish(), issuer);
  EXPECT_EQ(outcome.chain, "the chain");
  EXPECT_GE(outcome.took, seconds(2 * 42));
  EXPECT_LT(outcome.took, seconds(2 * 42 + 30));
}

TEST(Issuance, whatever_is_answered_in_whatever_order_it_ends) {
  const std::vector<std::string> bodies = {
      "",
      "{}",
      "[]",
      "null",
      problem("badNonce"),
      problem("accountDoesNotExist"),
      problem("alreadyReplaced"),
      problem("orderNotReady"),
      problem("rateLimited"),
      problem("serverInternal"),
      R"({"newNonce":"https://ca/nonce","newAccount":"https://ca/a","newOrder":"https://ca/o","renewalInfo":"https://ca/r"})",
      R"({"status":"pending","finalize":"https://ca/f","authorizations":["https://ca/z","https://ca/y"]})",
      R"({"status":"ready","finalize":"https://ca/f","authorizations":["https://ca/z"]})",
      R"({"status":"processing","finalize":"https://ca/f","authorizations":["https://ca/z"]})",
      R"({"status":"valid","certificate":"https://ca/c","finalize":"https://ca/f","authorizations":["https://ca/z"]})",
      R"({"status":"invalid","finalize":"https://ca/f","authorizations":["https://ca/z"]})",
      R"({"status":"pending","identifier":{"type":"dns","value":"A.test"},"challenges":[{"type":"tls-alpn-01","url":"https://ca/c","token":"t","status":"pending"}]})",
      R"({"status":"pending","identifier":{"type":"dns","value":"a.test"},"challenges":[{"type":"tls-alpn-01","url":"https://ca/c","token":"t","status":"processing"}]})",
      R"({"status":"valid","identifier":{"type":"dns","value":"b.test"}})",
      R"({"status":"invalid","identifier":{"type":"dns","value":"b.test"}})"};
  const std::vector<unsigned> statuses = {200, 200, 200, 200, 200, 200, 201, 204, 400, 403, 404, 409, 429, 500, 503};
  int issued = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    base::Random random(seed);
    // Half of the seeds get what fits where the machine stands, mostly: else it would hardly ever get far.
    Issuer sane;
    const std::uint64_t madness = seed % 2 == 0 ? 100 : 10;
    sane.fault = [&](const std::string&) -> std::optional<base::Result<Answer>> {
      if (random.below(100) >= madness) return std::nullopt;
      if (random.below(10) == 0) return base::fail(base::ErrorKind::kTimeout, "no answer");
      Answer answer{statuses[random.below(statuses.size())], bodies[random.below(bodies.size())], "", "", {}};
      if (random.below(3) != 0) answer.nonce = "n";
      if (random.below(2) == 0) answer.location = "https://ca/somewhere";
      if (random.below(4) == 0) answer.retry_after = seconds(random.below(100'000));
      return answer;
    };
    Wish wanted = wish();
    if (random.below(2) == 0) wanted.account = "https://ca/account/1";
    wanted.replaces = "x.y";
    Issuance issuance(wanted);
    base::TimePoint now{};
    std::size_t sent = 0;
    bool over = false;
    while (!over && sent <= kRequestsMax) {
      const Step step = issuance.next(now);
      if (const auto* const wait = std::get_if<Wait>(&step)) {
        ASSERT_GT(wait->until, now) << "seed " << seed;
        now = wait->until;
      } else if (const auto* const send = std::get_if<Send>(&step)) {
        ASSERT_TRUE(is_good_url(send->url)) << "seed " << seed << " " << send->url;
        ++sent;
        base::Result<Answer> got = base::fail(base::ErrorKind::kUnavailable, "");
        if (auto made = sane.fault("")) {
          got = *made;
        } else if (send->url.starts_with("https://ca/") && (send->body.empty() || send->url.find("/a") == 10)) {
          got = Answer{200, bodies[10], "n", "https://ca/account/1", {}};
        } else {
          got = Answer{200, bodies[11 + random.below(8)], "n", "https://ca/order", {}};
        }
        issuance.answered(got, now);
      } else {
        over = true;
        if (std::holds_alternative<Issued>(step)) ++issued;
        EXPECT_FALSE(issuance.presented());
        EXPECT_EQ(issuance.next(now).index(), step.index()) << "an end stays one";
      }
      ASSERT_LE(now - base::TimePoint{}, kIssuanceMax) << "seed " << seed;
    }
    EXPECT_TRUE(over) << "seed " << seed;
  }
  EXPECT_GT(issued, 0) << "some get through";
}

}  // namespace
}  // namespace mesh::acme
