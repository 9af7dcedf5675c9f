"""Something to look at on the first start: a campaign, and a petition that is open."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.campaigns.models import Campaign, CampaignTarget
from app.kit.clock import now
from app.petitions.models import NO_ADDRESS_LIMIT, Petition, PetitionMilestone, PetitionText

PETITION = "repeal-the-laws"


async def seed(session: AsyncSession) -> str:
    """Plant the demo; the petition's slug."""
    campaign = Campaign(
        slug="equal-everywhere",
        title="Equal everywhere",
        story="In many countries loving somebody of one's own sex is still a crime. This campaign ends that.",
        goal_statement="No country where love is a crime",
        metric_name="countries where it is a crime",
        metric_start=76,
        metric_target=0,
        metric_current=76,
    )
    petition = Petition(
        campaign_id=campaign.id,
        slug=PETITION,
        state="open",
        title="Repeal the laws that make love a crime",
        ask="We ask every government to repeal the laws under which people are jailed for whom they love.",
        target="The governments of the 76 countries",
        signature_goal=100,
        # So that whoever tries it out sees the count move without a mail server.
        confirmation="none",
        accept_unproven=True,
        opens_at=now(),
        # On a machine of one's own everybody has the same address.
        address_limit=NO_ADDRESS_LIMIT,
    )
    session.add(campaign)
    await session.flush()
    session.add(CampaignTarget(campaign_id=campaign.id, name="Heads of government", role="Can propose the repeal"))
    petition.campaign_id = campaign.id
    session.add(petition)
    await session.flush()
    session.add(
        PetitionText(
            petition_id=petition.id,
            locale="fr",
            title="Abrogez les lois qui font de l'amour un crime",
            ask="Nous demandons à chaque gouvernement d'abroger les lois qui emprisonnent ceux qui s'aiment.",
        )
    )
    session.add(PetitionMilestone(petition_id=petition.id, threshold_count=1000, label="A thousand of us"))
    return petition.slug
